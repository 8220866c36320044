"""Files appear complete under their name, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from delf.errors import DelfError, OptionError
from delf.files import replacing, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_new_and_replaced(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"first")
    assert (tmp_path / "a").read_bytes() == b"first"
    write_atomically(tmp_path / "a", b"second, and longer")
    assert (tmp_path / "a").read_bytes() == b"second, and longer"
    assert names(tmp_path) == ["a"]


def test_the_old_file_is_there_until_the_block_ends(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old")
    with replacing(tmp_path / "a") as temporary:
        assert temporary.parent == tmp_path  # the same disk, so that the rename is one step
        temporary.write_bytes(b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("no"), SystemExit(1)])
def test_an_interruption_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(type(error)), replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"half of the n")
        raise error
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_full_disk_is_a_sentence(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(DelfError, match=r"a' could not be written \(No space left on device\)"), \
            replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_errors_with_a_sentence_of_their_own_pass(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"^this one$"), replacing(tmp_path / "a"):
        raise OptionError("this one")
    assert names(tmp_path) == []


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old")
    program = ("import os, pathlib, signal, sys\nfrom delf.files import replacing\n"
               "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
               "    temporary.write_bytes(b'half')\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a").read_bytes() == b"old"
    leftover = [name for name in names(tmp_path) if name != "a"]
    assert [name[0] for name in leftover] == ["."]  # hidden, and never taken for the file
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "missing" / "a", tmp_path / "file" / "a", tmp_path / "nul\0", tmp_path / "folder", Path()):
        with pytest.raises(DelfError, match=r"\.$"):
            write_atomically(path, b"data")
    assert names(tmp_path) == ["file", "folder"]


def test_an_overlong_name_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DelfError, match="could not be written"):
        write_atomically(tmp_path / ("n" * 300), b"data")
    assert names(tmp_path) == []


def test_a_missing_folder_is_known_before_the_work(tmp_path: Path) -> None:
    worked = False
    with pytest.raises(DelfError, match="choose a folder"), replacing(tmp_path / "missing" / "a"):
        worked = True
    assert not worked


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_are_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DelfError, match="is not a file"):
        write_atomically(tmp_path / "pipe", b"data")
    assert (tmp_path / "pipe").is_fifo()
