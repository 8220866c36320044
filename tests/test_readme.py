"""What the README shows in Python, runs, also with the oldest versions; tests/cli/test_docs.py has all else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from shown import examples

from delf.demo.samples import data_folder

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_finds_the_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("coffee.png", "rocket.jpg", "camera.png"):
        shutil.copy(data_folder() / name, tmp_path / "photos")
    shutil.copy(data_folder() / "rocket.jpg", tmp_path / "query.jpg")
    monkeypatch.chdir(tmp_path)
    (example,) = [one for one in examples(ROOT / "README.md") if one.language == "python"]
    exec(compile(example.text, example.place, "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["3 added, 0 unchanged, 0 skipped", "found"]
    assert lines[2].startswith("1 photos/rocket.jpg") and lines[2].endswith("100%")


def test_every_command_of_the_table_exists() -> None:
    from delf.cli.app import app

    listed = set(re.findall(r"^\| `delf (\w+)", README, re.MULTILINE))
    commands = {command.callback.__name__ for command in app.registered_commands if command.callback}
    groups = {group.typer_instance.info.name for group in app.registered_groups if group.typer_instance}
    assert listed == commands | groups


def test_links_and_pictures_are_there() -> None:
    for page in (ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
