"""Files appear complete under their name, or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.codes import encode
from delf.errors import DelfError, OptionError
from delf.evaluation.ranking import write_ranking
from delf.files import (
    TEMPORARY,
    _tidy_once,
    flush_tree,
    remove_abandoned,
    replacing,
    scratch_file,
    write_atomically,
)
from delf.formats import FORMATS, write_features
from delf.index import Asmk, Codebook, IvfPqOptions, IvfPqQuantiser
from delf.index.hamming import Hamming
from delf.types import Features

COARSE = IvfPqOptions(words=2, bits=4, iterations=1)


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


# --- power cuts


@pytest.mark.parametrize("there", [False, True])
def test_a_file_and_its_name_are_on_the_disk_before_the_block_ends(tmp_path: Path, disk: Any, there: bool) -> None:
    path = tmp_path / "a"
    if there:
        path.write_bytes(b"old")
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
    assert disk.holds(path)


def test_it_is_flushed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the name may be on the disk, and the content of the old file gone, when the new one is still empty."""
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        status = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", lambda *names: events.append("name") or replace(*names))
    monkeypatch.setattr(os, "rename", lambda *names: pytest.fail("renamed otherwise"))
    write_atomically(tmp_path / "a", b"content")
    assert events == ["7 bytes", "name", "folder"]


def test_a_disk_that_fails_when_it_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a", b"old")

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(DelfError, match=r"could not be written \(Input/output error\)"):
            write_atomically(tmp_path / "a", b"new")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_file_systems_that_flush_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    fsync = os.fsync

    def refused(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    write_atomically(tmp_path / "a", b"data")
    assert (tmp_path / "a").read_bytes() == b"data"


def test_a_tree_is_flushed_with_all_that_is_in_it(tmp_path: Path, disk: Any) -> None:
    files = [tmp_path / "a", tmp_path / "b/c", tmp_path / "b/d/e"]
    for path in files:
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.name)
    flush_tree(tmp_path)
    assert all(map(disk.holds, files))


WORDS = np.eye(4, 8, dtype=np.float32)
FEATURES = Features(np.ones((3, 2), np.float32), np.ones(3, np.float32), np.ones(3, np.float32),
                    np.eye(3, 8, dtype=np.float32), (64, 48), np.ones(8, np.float32))
WRITERS: dict[str, Callable[[Path], object]] = {
    "words": lambda path: Codebook(WORDS).save(path),
    "lists of asmk": lambda path: Asmk(Codebook(WORDS)).build([encode(WORDS)], path),
    "lists of hamming": lambda path: Hamming(Codebook(WORDS)).build([encode(WORDS)], path),
    "quantiser": lambda path: IvfPqQuantiser.train(WORDS, COARSE).save(path),
    "inverted lists": lambda path: IvfPqQuantiser.train(WORDS, COARSE).build([encode(WORDS)], path),
    "ranking": lambda path: write_ranking(path, [[0, 1]]),
    **{f"features {suffix}": lambda path, suffix=suffix: write_features(path.with_suffix(suffix), FEATURES)
       for suffix in FORMATS},
}


@pytest.mark.parametrize("kind", WRITERS)
def test_whatever_is_written_is_on_the_disk(tmp_path: Path, disk: Any, kind: str) -> None:
    WRITERS[kind](tmp_path / "a")
    [path] = tmp_path.iterdir()
    assert path.stem == "a", "nothing is left beside it"
    assert disk.holds(path)


# --- what living and dead writers have left


def test_what_is_being_written_is_not_abandoned(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as temporary, scratch_file(tmp_path / "a") as scratch:
        for path in (temporary, scratch):
            assert TEMPORARY.fullmatch(path.name)
            path.write_bytes(b"half")
            remove_abandoned(path)
            assert path.exists()
    assert names(tmp_path) == ["a"]


def test_what_a_dead_process_left_is_abandoned(tmp_path: Path) -> None:
    program = ("import os, pathlib, signal, sys\nfrom delf.files import replacing\n"
               "with replacing(pathlib.Path(sys.argv[1])) as temporary:\n"
               "    print(temporary, flush=True)\n    sys.stdin.read(1)\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "a")], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin and child.stdout
        left = Path(child.stdout.readline().strip())
        remove_abandoned(left)
        assert left.exists(), "it is still at it"
        child.stdin.write("x")
    assert left.exists()
    remove_abandoned(left)
    assert names(tmp_path) == []
    remove_abandoned(left)  # whether it is there or not


def test_one_that_is_taken_for_abandoned_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    flock, taken = fcntl.flock, []

    def overtaken(descriptor: int, how: int) -> None:
        if not taken and how == fcntl.LOCK_EX:
            taken.extend(tmp_path.iterdir())
            taken[0].unlink()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", overtaken)
    with replacing(tmp_path / "a") as temporary:
        assert taken != [temporary]
        temporary.write_bytes(b"data")
        remove_abandoned(temporary)
    assert taken
    assert names(tmp_path) == ["a"]


def test_what_dead_processes_left_goes_wherever_one_writes(tmp_path: Path) -> None:
    """Whatever they wrote: features in a folder, a page, a model."""
    dead, own, old = (tmp_path / f".{digit * 16}{mark}.partial" for digit, mark in (("0", ""), ("1", ".own"),
                                                                                   ("2", ".own")))
    mine = tmp_path / ".0123.partial"
    for path in (dead, own, old, mine):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    with replacing(tmp_path / "a", locked=False) as unlocked:
        assert TEMPORARY.fullmatch(unlocked.name)
        unlocked.write_bytes(b"data")
        assert names(tmp_path) == sorted([unlocked.name, own.name, mine.name]), "a living one may lock it otherwise"
    with scratch_file(tmp_path / "b") as living:
        _tidy_once.cache_clear()
        write_atomically(tmp_path / "c", b"data")
        assert living.exists()
    assert names(tmp_path) == sorted([own.name, mine.name, "a", "c"])


# --- places


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
