# Every target does its own set-up: Python 3.11 or newer is all that is needed.
PYTHON ?= python3
PLAIN := .venv
DEV := .venv-dev
OLDEST := .venv-oldest
PHOTOS ?=
PARALLEL ?= --numprocesses 2 --dist worksteal

# For tests, what is imported is compiled when it is first needed, and kept: most of what is installed never is.
TEST_INSTALL := -m pip install --quiet --no-compile
export PYTHONDONTWRITEBYTECODE :=
# The workers of the tests fill the cores: more threads in each would mostly wait for one another.
WORKERS := OMP_NUM_THREADS=1

.PHONY: install demo environments test test-newest test-cluster test-oldest coverage lint docs bench bench-quality clean

install: $(PLAIN)/.installed            ## .venv with bin/delf: a plain install, without torch

$(PLAIN)/.installed: pyproject.toml requirements/plain.txt
	$(PYTHON) -m venv $(PLAIN)
	$(PLAIN)/bin/python -m pip install --quiet --upgrade pip
	$(PLAIN)/bin/python -m pip install --quiet $(COMPILE) --constraint requirements/plain.txt --editable .
	@touch $@

demo: install                           ## the main job on real photographs; PHOTOS=folder for your own
	@$(PLAIN)/bin/python -m pip install --quiet --constraint requirements/plain.txt --editable '.[demo]'
	$(PLAIN)/bin/delf demo $(if $(PHOTOS),"$(PHOTOS)") --output $(if $(PHOTOS),demo/photos,demo/scenes)

$(DEV)/.installed: pyproject.toml requirements/dev.txt requirements/oracles.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(TEST_INSTALL) --upgrade pip
	$(DEV)/bin/python $(TEST_INSTALL) --requirement requirements/dev.txt
	grep '==' requirements/oracles.txt | while read -r package; do \
	  $(DEV)/bin/python $(TEST_INSTALL) --constraint requirements/dev.txt "$$package" \
	    || echo "$$package cannot be installed here: tests that compare with it are skipped"; done
	$(DEV)/bin/python $(TEST_INSTALL) --no-deps --editable .
	@touch $@

environments:                           ## those of the tests, beside one another
	@$(MAKE) --no-print-directory --jobs=3 COMPILE=--no-compile $(DEV)/.installed $(PLAIN)/.installed $(if $(PYTEST),,$(OLDEST)/.installed)

# lint and test-oldest take the time that the others leave; what they say comes at the end.
test: environments                      ## all tests, in environments of their own
	@beside=$$(mktemp); code=0; \
	nice -n 19 $(MAKE) --no-print-directory lint $(if $(PYTEST),,test-oldest) >$$beside 2>&1 & others=$$!; \
	trap "kill $$others" INT; \
	$(MAKE) --no-print-directory test-newest || code=1; \
	$(if $(PYTEST),,$(MAKE) --no-print-directory test-cluster || code=1;) \
	wait $$others || code=1; cat $$beside; rm $$beside; exit $$code

test-newest: $(DEV)/.installed install  ## with the versions of the lock files
	DELF_PLAIN=$(CURDIR)/$(PLAIN) $(WORKERS) $(DEV)/bin/python -m pytest --durations=15 $(PARALLEL) $(or $(PYTEST),--ignore=tests/cluster)

# One process, as Ray starts processes of its own and gives them little time to answer: beside it, nothing but what
# takes the time that it leaves.
test-cluster: $(DEV)/.installed         ## indexing and searching on several nodes of a cluster, all on this machine
	$(WORKERS) $(DEV)/bin/python -m pytest --durations=5 tests/cluster

# What depends on the versions of OpenCV, faiss, Pillow, numpy and ONNX Runtime, with the oldest of each.
test-oldest: $(OLDEST)/.installed       ## with the oldest versions that pyproject.toml claims
	$(WORKERS) $(OLDEST)/bin/python -m pytest --quiet $(PARALLEL) tests/images tests/index tests/verification tests/formats tests/report tests/test_readme.py

$(OLDEST)/.installed: pyproject.toml requirements/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python $(TEST_INSTALL) --requirement requirements/oldest.txt
	$(OLDEST)/bin/python $(TEST_INSTALL) --no-deps --editable .
	@touch $@

coverage: $(DEV)/.installed install     ## all tests, slower, and the lines that none of them runs
	DELF_PLAIN=$(CURDIR)/$(PLAIN) $(DEV)/bin/python -m pytest $(PARALLEL) --cov=delf --cov-report=term:skip-covered

lint: $(DEV)/.installed                 ## ruff and mypy
	$(DEV)/bin/ruff check src tests benchmarks examples docs/.site
	$(DEV)/bin/mypy

docs: $(DEV)/.installed                 ## the documentation as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 $(DEV)/bin/python -m mkdocs build --strict

bench: $(DEV)/.installed                ## speed beside peers (minutes); PHOTOS=folder, COMPARE=bench.json of before
	$(DEV)/bin/python benchmarks/floor.py
	$(DEV)/bin/delf benchmark $(PHOTOS) --output bench.json --plot bench.svg $(if $(COMPARE),--compare $(COMPARE))
	$(PYTHON) benchmarks/install.py

bench-quality: $(DEV)/.installed        ## the full tables of benchmarks/RESULTS.md; takes an hour or so
	$(DEV)/bin/python benchmarks/quality.py
	$(DEV)/bin/python benchmarks/speed.py

clean:                                  ## remove environments and what the demo made
	rm -rf $(PLAIN) $(DEV) $(OLDEST) demo site
