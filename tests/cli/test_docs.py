"""The pages for people who come from elsewhere: the commands, options and names that they mention are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import typer.main

from delf.cli.app import app

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("archive.md", "coming-from.md", "duplicates.md", "reproduce.md", "scaling.md", "storage.md", "weights.md")


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    known = typer.main.get_command(app)
    lines = re.findall(r"`(delf [^`]+)`", text) + re.findall(r"^    (delf .+)$", text, re.MULTILINE)
    assert len(lines) > 4
    for line in lines:
        words = re.sub(r"\s+#.*", "", line).split()[1:]
        command = known.commands[words[0]]
        if hasattr(command, "commands"):
            command, words = command.commands[words[1]], words[1:]
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in words:
            if re.fullmatch(r"--?[a-z][a-z0-9-]*", word):
                assert word in options, f"{line}: {word}"


@pytest.mark.parametrize("page", PAGES)
def test_names_of_the_library_exist(page: str) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
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
