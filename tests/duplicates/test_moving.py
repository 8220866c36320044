"""Moving spare files aside and back: nothing is lost, overwritten or touched that is not to be moved."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.collection import Collection
from delf.duplicates import Duplicates, Move, find_duplicates, move_duplicates, undo_moves
from delf.duplicates import moving as moving_module
from delf.duplicates.table import read_moves, write_moves
from delf.errors import DelfError
from delf.files import TEMPORARY, locked_folder, move_file
from delf.images.passing import UNDO

ODD = os.fsdecode(b"odd\nname \xff,\".png")


def tree(*folders: Path) -> dict[str, str]:
    """The digest of each file below some folders, by its path; what a move makes for itself is left out."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for folder in folders
            for path in folder.rglob("*") if path.is_file() and path.name != UNDO}


@pytest.fixture
def make(draw: Any, make_stub: Any, tmp_path: Path) -> Callable[..., Path]:
    """Makes a collection of copies: two of one photo, three of another in several folders, and one that is alone."""

    def made(name: str = "one") -> Path:
        for path, seed in (("a.png", 1), (ODD, 1), ("x/b.png", 2), ("y/b.png", 2), ("z/b.png", 2), ("alone.png", 3)):
            draw(f"{name}/photos/{path}", seed)
        (tmp_path / name / "photos/notes.txt").write_text("not ours", encoding="utf-8")
        with Collection.create(tmp_path / name / "c.delf", make_stub()) as collection:
            collection.add([tmp_path / name / "photos"])
        return tmp_path / name

    return made


@pytest.fixture
def place(make: Callable[..., Path]) -> Path:
    return make()


def find(place: Path) -> Duplicates:
    with Collection.open(place / "c.delf") as collection:
        return find_duplicates(collection, near=False)


def test_all_but_the_best_are_moved_and_come_back(place: Path) -> None:
    before, times = tree(place / "photos"), {path: path.stat().st_mtime_ns for path in (place / "photos").rglob("*")
                                             if path.is_file()}
    found = find(place)
    report = move_duplicates(found, place / "aside")
    assert (len(report.moved), report.left, report.interrupted) == (3, (), False)
    assert report.bytes == found.bytes
    spare = {str(file.path) for group in found.groups for file in group.spare}
    assert tree(place / "photos") == {path: digest for path, digest in before.items() if path not in spare}
    for move in read_moves(place / "aside"):
        assert move.source.relative_to(place / "photos") == move.target, "names are kept"
        assert tree(place / "aside")[str(place / "aside" / move.target)] == before[str(move.source)] == move.key
    assert find(place).groups == ()

    back = undo_moves(place / "aside")
    assert (len(back.restored), back.left) == (3, ())
    assert tree(place / "photos") == before
    assert times == {path: path.stat().st_mtime_ns for path in times}, "the collection knows them as before"
    assert list((place / "aside").iterdir()) == []
    assert find(place) == found


def test_files_that_were_moved_to_below_the_photos_are_forgotten_too(place: Path, make_stub: Any) -> None:
    before = tree(place / "photos")
    aside = place / "photos/2019/duplicates"
    move_duplicates(find(place), aside)
    with Collection.open(place / "c.delf", make_stub()) as collection:
        report = collection.add([place / "photos"], prune=True)
        assert (report.moved, report.pruned, collection.files()) == (0, 3, 3)
    assert find(place).groups == ()
    undo_moves(aside)
    aside.rmdir()
    aside.parent.rmdir()
    assert tree(place / "photos") == before


def test_nothing_is_overwritten(place: Path) -> None:
    aside = place / "aside"
    for name in ("a.png", "y/b.png"):
        (aside / name).parent.mkdir(parents=True, exist_ok=True)
        (aside / name).write_bytes(b"was here before")
    before = tree(place)
    move_duplicates(find(place), aside)
    assert (aside / "a.png").read_bytes() == (aside / "y/b.png").read_bytes() == b"was here before"
    assert (aside / "y/b-2.png").is_file()
    [gone] = [move for move in read_moves(aside) if move.target == Path("y/b-2.png")]
    gone.source.write_bytes(b"new at its place")
    report = undo_moves(aside)
    [sentence] = report.left
    assert "b-2.png" in sentence and "something else" in sentence
    assert gone.source.read_bytes() == b"new at its place"
    gone.source.unlink()
    assert len(undo_moves(aside).restored) == 1
    assert tree(place) == before
    with pytest.raises(DelfError, match=UNDO):
        undo_moves(aside)


def test_what_changed_since_is_left_alone_and_named(place: Path) -> None:
    found = find(place)
    three = next(group for group in found.groups if len(group.files) == 3)
    two = next(group for group in found.groups if len(group.files) == 2)
    status = three.files[1].path.stat()
    content = bytearray(three.files[1].path.read_bytes())
    content[-1] ^= 1
    three.files[1].path.write_bytes(content)
    os.utime(three.files[1].path, ns=(status.st_atime_ns, status.st_mtime_ns))  # only its content tells
    two.keep.path.unlink()
    report = move_duplicates(found, place / "aside")
    assert [move.source for move in report.moved] == [three.files[2].path]
    assert len(report.left) == 2
    assert any("has changed since it was indexed" in sentence for sentence in report.left)
    assert any("would be kept" in sentence and "is gone" in sentence for sentence in report.left)
    assert two.files[1].path.is_file() and three.files[1].path.read_bytes() == content


def test_what_lies_behind_links_stays(draw: Any, make_stub: Any, tmp_path: Path) -> None:
    draw("photos/1.png", 1)
    draw("elsewhere/2.png", 1)
    (tmp_path / "photos/way").symlink_to(tmp_path / "elsewhere")
    with Collection.create(tmp_path / "c.delf", make_stub()) as collection:
        collection.add([tmp_path / "photos"])
        os.utime(tmp_path / "photos/1.png", ns=(1, 1))
        collection.add([tmp_path / "photos"])  # which makes it the one that is kept
        found = find_duplicates(collection, near=False)
    [group] = found.groups
    assert group.spare[0].path == tmp_path / "photos/way/2.png"
    report = move_duplicates(found, tmp_path / "aside")
    assert (report.moved, len(report.left)) == ((), 1)
    assert "link" in report.left[0]
    assert (tmp_path / "elsewhere/2.png").is_file()


def test_places_that_are_no_places(place: Path) -> None:
    found, before = find(place), tree(place / "photos")
    (place / "file").write_bytes(b"")
    (place / "foreign").mkdir()
    (place / "foreign" / UNDO).write_text("name,age\n", encoding="utf-8")
    for name, word in (("photos", "holds photos"), ("photos/x", "holds photos"), ("c.delf", "lies in the collection"),
                       ("c.delf/aside", "lies in the collection"), ("file", "cannot be made"),
                       ("file/aside", "cannot be made"), ("foreign", "no list of moves")):
        with pytest.raises(DelfError, match=word):
            move_duplicates(found, place / name)
    with pytest.raises(DelfError, match="no list of moves"):
        undo_moves(place / "foreign")
    with pytest.raises(DelfError, match=UNDO):
        undo_moves(place / "nowhere")
    (place / "aside").mkdir()
    with locked_folder(place / "aside"), pytest.raises(DelfError, match="another process"):
        move_duplicates(found, place / "aside")
    assert tree(place / "photos") == before


@pytest.mark.parametrize(("source", "target"), [
    ("/a", "../outside.txt"), ("/a", "/etc/hostname"), ("a", "a"), ("/a/../b", "a"), ("/a", ""), ("/a", "x/../../y")])
def test_a_list_that_leads_outside_is_refused(tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / "aside").mkdir()
    (tmp_path / "aside" / UNDO).write_text(f"source,target,bytes,sha256\n{source},{target},1,{'0' * 64}\n",
                                           encoding="utf-8")
    with pytest.raises(DelfError, match="no list of moves"):
        undo_moves(tmp_path / "aside")


def test_undo_follows_no_link_and_takes_nothing_that_was_not_moved(place: Path) -> None:
    aside = place / "aside"
    move_duplicates(find(place), aside)
    [first, *_] = read_moves(aside)
    kept = (aside / first.target).rename(place / "somewhere.png")
    (aside / first.target).symlink_to(kept)
    report = undo_moves(aside)
    assert len(report.restored) == 2 and len(report.left) == 1
    assert kept.is_file() and (aside / first.target).is_symlink() and not first.source.exists()
    (aside / first.target).unlink()
    (aside / first.target).write_bytes(b"changed")
    assert "has changed since" in undo_moves(aside).left[0]
    kept.replace(first.source)
    (aside / first.target).unlink()
    first_link = aside / first.target
    first_link.symlink_to(first.source)
    undo_moves(aside)
    assert first.source.is_file(), "a link to the file itself is no second copy"


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.binary(min_size=1, max_size=12), st.integers(0, 2**40)), max_size=5))
def test_any_name_survives_the_list(rows: list[tuple[bytes, int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("list")
    names = [os.fsdecode(name.replace(b"\0", b"0").replace(b"/", b"_").replace(b".", b"_")) for name, _ in rows]
    moves = [Move(Path("/photos") / name, Path(name), size, "0a" * 32)
             for name, (_, size) in zip(names, rows, strict=True)]
    write_moves(folder, moves)
    assert read_moves(folder) == moves


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_list_or_an_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("list")
    (folder / UNDO).write_bytes(data)
    with pytest.raises(DelfError):
        read_moves(folder)


def test_ctrl_c_between_two_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(place / "photos")
    moved: list[Path] = []

    def interrupted(source: Path, target: Path) -> None:
        if moved:
            raise KeyboardInterrupt
        move_file(source, target)
        moved.append(source)

    with monkeypatch.context() as patched:
        patched.setattr(moving_module, "move_file", interrupted)
        report = move_duplicates(find(place), place / "aside")
    assert report.interrupted and len(report.moved) == 1
    assert len(move_duplicates(find(place), place / "aside").moved) == 2
    assert len(read_moves(place / "aside")) == 3
    undo_moves(place / "aside")
    assert tree(place / "photos") == before


def test_a_full_disk_leaves_files_where_they_are(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    before = tree(place / "photos")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _on_another_disk)
        patched.setattr(shutil, "copy2", full)
        report = move_duplicates(find(place), place / "aside")
    assert len(report.left) == 3 and all("No space left" in sentence for sentence in report.left)
    assert tree(place / "photos") == before
    assert tree(place / "aside") == {}


_replace = Path.replace


def _on_another_disk(self: Path, target: Path) -> Path:
    if self.parent != Path(target).parent:
        raise OSError(18, "Invalid cross-device link")
    return _replace(self, target)


@pytest.fixture(scope="module")
def killer() -> Iterator[Callable[..., int]]:
    """Runs a move or its undoing, and kills it before a step; how it ended."""
    process = subprocess.Popen([sys.executable, str(Path(__file__).with_name("killed.py"))], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    assert process.stdin and process.stdout

    def run(what: str, place: Path, step: int, other_disk: bool) -> int:
        words = [what, str(place / "c.delf"), str(place / "aside"), str(step), *(["other-disk"] if other_disk else [])]
        process.stdin.write("\t".join(words) + "\n")
        process.stdin.flush()
        return int(process.stdout.readline())

    yield run
    process.stdin.close()
    process.wait(timeout=30)
    process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
@pytest.mark.parametrize("other_disk", [False, True])
def test_killed_before_any_step_nothing_is_lost(place: Path, killer: Callable[..., int], other_disk: bool) -> None:
    """Each move is killed one step later than the last, and gone on with or undone in turns; so is its undoing."""
    photos, aside = place / "photos", place / "aside"
    (photos / "z/b.png").unlink()  # two moves show all that there is to see
    before = tree(photos)
    contents = set(before.values())
    stride = 10 if other_disk else 4  # there are more steps between disks
    for step in range(0, 400, stride):
        ended = killer("move", place, step, other_disk)
        now = tree(photos, aside)
        assert contents <= set(now.values()), f"a photo is lost at step {step}"
        assert set(before) - set(now) <= {str(move.source) for move in read_moves(aside)}, f"step {step}"
        if step // stride % 2 or ended == 0:
            move_duplicates(find(place), aside)
            assert len(read_moves(aside)) == 2 and len(tree(photos, aside)) == len(before), f"step {step}"
        if (aside / UNDO).exists():
            killer("undo", place, step, other_disk)
            assert contents <= set(tree(photos, aside).values()), f"a photo is lost at step {step} on the way back"
        if (aside / UNDO).exists():
            undo_moves(aside)
        assert tree(photos) == before, f"step {step}"
        left = [path.name for path in aside.rglob("*")] if aside.exists() else []
        assert all(TEMPORARY.fullmatch(name) for name in left), f"step {step}"  # a list that the next move removes
        if ended == 0:
            break
    assert ended == 0 and step > 20 and left == []
