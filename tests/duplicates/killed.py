"""Moves that are killed before each of their steps, in processes of their own.

    python killed.py            for each line WHAT, COLLECTION, FOLDER, STEP (with tabs between them, and a fifth word
                                where FOLDER is to be on another disk), a process that does WHAT, move or undo, and is
                                killed before that step; says how it ended
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

from delf.collection import Collection
from delf.duplicates import find_duplicates, move_duplicates, undo_moves

STEPS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.utime", "os.chmod")


_replace = Path.replace


def _on_another_disk(self: Path, target: Any) -> Path:
    if self.parent != Path(target).parent:
        raise OSError(errno.EXDEV, "another disk")
    return _replace(self, target)


def main(what: str, collection: str, folder: str, step: int, other_disk: bool) -> None:
    """Do it, and die on the way."""
    with Collection.open(collection) as opened:
        found = find_duplicates(opened, near=False)
    left = step

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event in STEPS and any(folder in str(arguments[0]) for folder in ("/photos", "/aside")):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()  # a hook cannot be taken away
    if child == 0:
        if other_disk:
            Path.replace = _on_another_disk  # type: ignore[method-assign, assignment]
        sys.addaudithook(count)
        move_duplicates(found, folder) if what == "move" else undo_moves(folder)
        os._exit(0)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for line in sys.stdin:
        what, collection, folder, step, *rest = line.rstrip("\n").split("\t")
        main(what, collection, folder, int(step), bool(rest))
