"""The command line in this process, which is quick, and in one of its own, where that matters."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    def ok(self) -> str:
        """The output of a command that did its job."""
        assert self.code == 0, self.err
        assert "delf: " not in self.err
        return self.out

    def lines(self) -> list[Any]:
        """The objects that a command printed, one a line and nothing else."""
        return [json.loads(line) for line in self.ok().splitlines()]

    def object(self) -> Any:
        """The one object that a command printed."""
        [value] = self.lines()
        return value

    def failed(self, *words: str, code: int = 1) -> str:
        """The one sentence in which a command failed, with these words in it."""
        assert self.code == code, self.err
        assert "Traceback" not in self.err + self.out
        [sentence] = [line for line in self.err.splitlines() if line.startswith("delf: ")]
        assert len(sentence) > len("delf: ")
        for word in words:
            assert word in sentence
        return sentence

    def skipped(self) -> list[str]:
        """The sentences of what was left out."""
        lines = self.err.splitlines()
        for number, line in enumerate(lines):
            if line.startswith("Skipped "):
                return [sentence.strip() for sentence in lines[number + 1 :] if sentence.startswith("  ")]
        return []


@pytest.fixture(scope="session")
def parser() -> Any:
    """All commands with their options, which are worked out once, and not for each command that is run."""
    from typer.main import get_command

    from delf.cli.app import app

    return get_command(app)


@pytest.fixture
def delf(parser: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs a command in this process."""
    from delf.cli import main

    def run(*arguments: str | Path) -> Done:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["delf", *map(str, arguments)])
        monkeypatch.setattr("delf.cli.app.app", parser)
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        return Done(int(end.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Variables of a shell that is no terminal and has no wishes."""
    unwanted = ("PYTHON", "COV", "DELF", "FORCE_COLOR", "NO_COLOR", "TTY", "CLICOLOR")
    return {key: value for key, value in os.environ.items() if not key.startswith(unwanted)} | {"TERM": "xterm"}


@pytest.fixture
def shell(tmp_path: Path, environment: dict[str, str]) -> Callable[..., Done]:
    """Runs a command in a process of its own, in the folder of the test."""

    def run(*arguments: str | bytes | Path) -> Done:
        done = subprocess.run([sys.executable, "-m", "delf", *arguments], cwd=tmp_path, env=environment, check=False,
                              capture_output=True, text=True, encoding="utf-8")
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def places(collection: Any) -> Path:
    """The folder of the collection of `photos`."""
    return Path(collection.folder)


@pytest.fixture(scope="session")
def benchmark_folder(photos: Path, queries: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six photos and three queries, in the form of the benchmarks: the side view is hard, one query has a box."""
    folder = tmp_path_factory.mktemp("benchmark") / "tiny"
    (folder / "images").mkdir(parents=True)
    names = ["camera", "cell", "coffee", "coffee-side", "rocket", "rocket-side"]
    for name in names:
        shutil.copy(photos / f"{name}.jpg", folder / "images")
    for name in ("coffee", "rocket", "camera"):
        shutil.copy(queries[name].path, folder / "images")
    entries = [{"easy": [2], "hard": [3], "junk": [], "bbx": [5, 5, 315, 208]},
               {"easy": [4, 5], "hard": [], "junk": []}, {"easy": [], "hard": [0], "junk": [1]}]
    truth = {"imlist": names, "qimlist": ["query-coffee", "query-rocket", "query-camera"], "gnd": entries}
    (folder / "gnd.json").write_text(json.dumps(truth), encoding="utf-8")
    return folder
