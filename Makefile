# Every target does its own set-up: Python 3.11 or newer is all that is needed.
PYTHON ?= python3
PLAIN := .venv
DEV := .venv-dev
OLDEST := .venv-oldest
PHOTOS ?=
PARALLEL ?= --numprocesses 2 --dist worksteal

.PHONY: install demo test test-oldest coverage lint bench bench-quality clean

install: $(PLAIN)/.installed            ## .venv with bin/delf: a plain install, without torch

$(PLAIN)/.installed: pyproject.toml requirements/plain.txt
	$(PYTHON) -m venv $(PLAIN)
	$(PLAIN)/bin/python -m pip install --quiet --upgrade pip
	$(PLAIN)/bin/python -m pip install --quiet --constraint requirements/plain.txt --editable .
	@touch $@

demo: install                           ## the main job on real photographs; PHOTOS=folder for your own
	@$(PLAIN)/bin/python -m pip install --quiet --constraint requirements/plain.txt --editable '.[demo]'
	$(PLAIN)/bin/delf demo $(if $(PHOTOS),"$(PHOTOS)") --output $(if $(PHOTOS),demo/photos,demo/scenes)

$(DEV)/.installed: pyproject.toml requirements/dev.txt requirements/oracles.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python -m pip install --quiet --upgrade pip
	$(DEV)/bin/python -m pip install --quiet --requirement requirements/dev.txt
	grep '==' requirements/oracles.txt | while read -r package; do \
	  $(DEV)/bin/python -m pip install --quiet --constraint requirements/dev.txt "$$package" \
	    || echo "$$package cannot be installed here: tests that compare with it are skipped"; done
	$(DEV)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

test: $(DEV)/.installed install lint     ## all tests, in an environment of their own
	DELF_PLAIN=$(CURDIR)/$(PLAIN) $(DEV)/bin/python -m pytest --durations=15 $(PARALLEL) $(PYTEST)
	$(if $(PYTEST),,$(MAKE) --no-print-directory test-oldest)

# What depends on the versions of OpenCV, faiss, Pillow, numpy and ONNX Runtime, with the oldest of each.
test-oldest: $(OLDEST)/.installed       ## with the oldest versions that pyproject.toml claims
	$(OLDEST)/bin/python -m pytest --quiet $(PARALLEL) tests/images tests/index tests/verification tests/formats tests/report tests/test_readme.py

$(OLDEST)/.installed: pyproject.toml requirements/oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --requirement requirements/oldest.txt
	$(OLDEST)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

coverage: $(DEV)/.installed install     ## all tests, slower, and the lines that none of them runs
	DELF_PLAIN=$(CURDIR)/$(PLAIN) $(DEV)/bin/python -m pytest $(PARALLEL) --cov=delf --cov-report=term:skip-covered

lint: $(DEV)/.installed                 ## ruff and mypy
	$(DEV)/bin/ruff check src tests benchmarks examples
	$(DEV)/bin/mypy

bench: $(DEV)/.installed                ## speed beside peers (minutes); PHOTOS=folder, COMPARE=bench.json of before
	$(DEV)/bin/python benchmarks/floor.py
	$(DEV)/bin/delf benchmark $(PHOTOS) --output bench.json --plot bench.svg $(if $(COMPARE),--compare $(COMPARE))
	$(PYTHON) benchmarks/install.py

bench-quality: $(DEV)/.installed        ## the full tables of benchmarks/RESULTS.md; takes an hour or so
	$(DEV)/bin/python benchmarks/quality.py
	$(DEV)/bin/python benchmarks/speed.py

clean:                                  ## remove environments and what the demo made
	rm -rf $(PLAIN) $(DEV) $(OLDEST) demo
