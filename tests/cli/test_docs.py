"""The README and the pages of docs/: what they show runs, the commands, options and names that they mention are there,
and a site can be made of them.

Each page has a copy of a small folder, in which its examples are run in their order. `tests/support/shown.py` says how
a page tells why one is not run.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from shown import LANGUAGES, PAGES, ROOT, examples

from delf.cli.app import app

TOLD = ("archive.md", "coming-from.md", "duplicates.md", "reproduce.md", "scaling.md", "storage.md", "weights.md")
NAMES = {"a": "coffee", "b": "coffee-side", "c": "rocket", "d": "cat"}  # of the photos in the folder
MINE = """from tiny_extractor import Tiny


class Mine(Tiny):
    def __init__(self, max_features=1000):
        super().__init__()
"""
RUN = [page for page in PAGES if any(one.is_run and one.language in LANGUAGES for one in examples(page))]


@pytest.fixture(scope="session")
def prepared(half_size: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What examples are about: `photos/`, the same as `~/Pictures`, a query, a benchmark. To be copied."""
    folder = tmp_path_factory.mktemp("examples") / "folder"
    for part in ("photos", "home/Pictures"):
        (folder / part).mkdir(parents=True)
        for name, source in NAMES.items():
            shutil.copy(half_size / f"{source}.jpg", folder / part / f"{name}.jpg")
    shutil.copy(half_size / "rocket-side.jpg", folder / "query.jpg")
    for name in "ab":
        shutil.copy(folder / "photos" / f"{name}.jpg", folder)
    shutil.copytree(folder / "photos", folder / "roxford5k" / "images")
    shutil.copy(folder / "query.jpg", folder / "roxford5k" / "images")
    truth = {"imlist": list(NAMES), "qimlist": ["query"], "gnd": [{"easy": [2], "hard": [], "junk": []}]}
    (folder / "roxford5k" / "gnd.json").write_text(json.dumps(truth), encoding="utf-8")
    (folder / "metadata.jsonl").write_text('{"photo": "photos/b.jpg", "album": "Rome"}\n', encoding="utf-8")
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    return folder


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page: Path, prepared: Path, delf: Callable[..., Any], tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(prepared, tmp_path / "folder")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(ROOT / "tests"))  # of which `mine.py` is made
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 9))  # to what a command asks
    delf("index", "photos", "-o", "places.delf").ok()
    for one in examples(page):
        if not one.is_run or one.language not in LANGUAGES:
            continue
        if one.language == "python":
            exec(compile(f"{one.first}\n{one.text}", one.place, "exec"), {"__name__": "example"})
            continue
        exec(compile(one.first, one.place, "exec"), {})
        for words in one.commands():
            assert words[0] == "delf", f"{one.place}: only delf itself is run here"
            done = delf(*words[1:])
            if "pip install 'delf-retrieval[" in done.err:
                pytest.skip(f"{one.place}: {done.err.strip()}")
            assert done.code == 0, f"{one.place}: {' '.join(words)}: {done.err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_not_run_says_why_and_is_well_formed(page: Path, parser: Any) -> None:
    for one in examples(page):
        assert one.language or page.name == "README.md", f"{one.place} does not say which language it is in"
        assert not one.by or (ROOT / one.by).exists(), f"{one.place} is run by a test that is not there"
        for named in re.findall(r"tests/[\w/]+(?:\.py)?", one.reason):
            assert (ROOT / named).exists(), f"{one.place} names {named}"
        if one.is_run:
            continue
        assert one.by or len(one.reason.split()) > 3, f"{one.place} does not say why it is not run"
        if one.language == "python":
            compile(one.text, one.place, "exec")
        elif one.language == "sh":
            for words in one.commands():
                if words[0] == "delf":
                    require_command(parser, words, one.place)


def require_command(known: Any, words: list[str], place: str) -> None:
    """That there are such a command and such options."""
    command, rest = known.commands[words[1]], words[2:]
    if hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for word in rest:
        if re.fullmatch(r"--?[a-z][a-z0-9-]*", word):
            assert word in options, f"{place}: {' '.join(words)}: there is no {word}"


@pytest.mark.parametrize("page", TOLD)
def test_commands_and_their_options_exist(page: str) -> None:
    lines = re.findall(r"`(delf [^`]+)`", (ROOT / "docs" / page).read_text(encoding="utf-8"))
    commands = [re.sub(r"\s+#.*", "", line).split() for line in lines]
    commands += [words for one in examples(ROOT / "docs" / page) if one.language == "sh" for words in one.commands()]
    known = typer.main.get_command(app)
    assert len(commands) > 4
    for words in commands:
        if words[0] == "delf":
            require_command(known, words, page)


@pytest.mark.parametrize("page", TOLD)
def test_names_of_the_library_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for dotted in set(re.findall(r"`(delf(?:\.\w+)+)[`(]", text)):
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:length]))
            except ModuleNotFoundError:
                continue
            for name in parts[length:]:
                found = getattr(found, name)
            break


# --- the site


LOADED = re.compile(r'<(?:script|link|img|iframe|source|video)\b[^>]*?(?:src|href)="((?:https?:)?//[^"]*)"')


def test_the_site_is_made_without_a_warning(tmp_path: Path, parser: Any) -> None:
    """It has all pages and references. One test, since making it takes some seconds."""
    if importlib.util.find_spec("mkdocstrings") is None or importlib.util.find_spec("mkdocs") is None:
        pytest.skip("needs the extra 'docs': pip install 'delf-retrieval[docs]'")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
                          cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert {page.stem for page in PAGES} - {"README"} <= {page.stem for page in pages}
    require_nothing_from_elsewhere(tmp_path / "site", pages)
    require_references(tmp_path / "site", parser)


def require_nothing_from_elsewhere(site: Path, pages: list[Path]) -> None:
    """That a page of the site loads what the site has, and nothing else."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert LOADED.findall(text) == [], page.name
        assert 'class="mermaid"' not in text and 'data-md-component="source"' not in text, "scripts would fetch these"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"""url\(["']?(?:https?:)?//""", sheet.read_text(encoding="utf-8")), sheet.name


def require_references(site: Path, parser: Any) -> None:
    """That the site has all commands with their options, and all that the library offers."""
    import delf

    commands = (site / "commands.html").read_text(encoding="utf-8")
    for name in parser.commands:
        assert f'id="delf-{name}"' in commands, name
    assert "--spool-bytes" in commands and "[bold]" not in commands and "&lt;int" not in commands
    library = (site / "library.html").read_text(encoding="utf-8")
    for name in delf.__all__:
        assert re.search(rf'id="delf(?:\.\w+)*\.{name}"', library), name
