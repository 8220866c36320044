"""What people do to a data set between builds: decisions that depend on each other, photos that go, tables that are
edited or saved by a spreadsheet, and builds that are stopped anywhere.
"""

from __future__ import annotations

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from delf.archive import build_dataset, read_photos, split_dataset, tables
from delf.collection import Collection
from delf.errors import DelfError
from delf.files import write_atomically

HEAD = "action,first,second,note\n"
Build = Callable[..., Any]


def groups_of(folder: Path) -> dict[str, str]:
    """The group of each photo by the name of its file."""
    with (folder / "groups.csv").open(newline="") as file:
        return {Path(name).stem: group for name, group in list(csv.reader(file))[1:]}


@pytest.fixture
def real(extractor: Any, places: Path, tmp_path: Path) -> Build:
    """Builds `out` from the real photos, whose features are there already."""
    return lambda *photos, **options: build_dataset(photos, tmp_path / "out", extractor, collection=places, **options)


@pytest.fixture
def build(stub: Any, draw: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds `out` from `in`: a group of two files for each of the letters."""
    monkeypatch.chdir(tmp_path)
    for seed, letter in enumerate("abcd"):
        draw(f"in/{letter}.png", seed)
        shutil.copy(f"in/{letter}.png", f"in/{letter}2.png")

    def go(lines: str | None = None, **options: Any) -> Any:
        if lines is not None:
            Path("out/decisions.csv").write_text(HEAD + lines)
        return build_dataset(["in"], "out", stub, **options)

    return go


def anchor_of(folder: Path, number: str) -> str:
    """The file of the photo by which a group is known."""
    key = json.loads((folder / "state.json").read_text())["groups"][number]
    return next(row.file for row in read_photos(folder) if row.key == key)


def test_a_group_stays_itself_when_its_photo_is_thrown_out(real: Build, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    real()
    before = groups_of(out)
    one, other = before["astronaut"], before["coffee"]
    lines = f"{HEAD}merge,{one},{other},\nrename,{one},Space,\nlandmark,{one},,\n"
    (out / "decisions.csv").write_text(lines)
    real()
    gone = [anchor_of(out, number) for number in (one, other)]
    (out / "decisions.csv").write_text(lines + "".join(f"remove,{file},,blurred\n" for file in gone))
    left = {"astronaut", "astronaut-side", "coffee", "coffee-side"} - {Path(file).stem for file in gone}
    assert len(left) == 2
    for _ in range(3):  # the first build still has the old table to look into, the others have not
        built = real()
        assert {name for name, group in groups_of(out).items() if group == "Space"} == left
        assert [(row.group, row.landmark) for row in built.landmarks if row.name] == [(int(one), "yes")]
        assert built.remarks == []
    (out / "decisions.csv").write_text(lines)
    real()
    assert {name for name, group in groups_of(out).items() if group == "Space"} == left | {
        Path(file).stem for file in gone}, "what is taken back comes back"


def test_a_group_stays_itself_when_its_photo_is_gone(real: Build, photos: Path, places: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    real()
    before = groups_of(out)
    merged = f"merge,{before['rocket']},{before['coffee']},\nrename,{before['rocket']},Rocket,\n"
    (out / "decisions.csv").write_text(HEAD + merged)
    real()
    gone = anchor_of(out, before["rocket"])
    with Collection.open(places) as opened:
        opened.remove(gone)
    for _ in range(2):
        real()
        after = groups_of(out)
        assert Path(gone).stem not in after
        assert {name for name, group in after.items() if group == "Rocket"} == {
            "rocket", "rocket-side", "coffee", "coffee-side"} - {Path(gone).stem}


def test_names_lead_to_the_group_that_has_them(build: Build) -> None:
    build()
    build("rename,1,First,\nrename,First,Second,\nremove,Second,,\n")
    assert groups_of(Path("out"))["a"] == ""
    built = build("rename,2,Same,\nrename,1,Same,\nno-landmark,Same,,\n")
    assert [(row.group, row.name, row.landmark) for row in built.landmarks if row.name] == [(2, "Same", "no")]
    assert len(built.remarks) == 1
    assert "one name" in built.remarks[0]
    assert build("rename,1,A,\nrename,1,B,\nrename,2,A,\nremove,A,,\n").landmarks[0].name == "B", "A is another one now"
    built = build("rename,A,B,\nrename,B,A,\nmerge,A,B,\n")
    assert [remark.split(" of ")[0] for remark in built.remarks] == ["line 2", "line 3", "line 4"], "names of nothing"


def test_groups_that_were_edited_are_kept_beside(build: Build) -> None:
    build()
    groups = Path("out/groups.csv")
    written = groups.read_bytes()
    edited = written.replace(b"in/c.png,3", b"in/c.png,1")
    assert edited != written
    for name in ("groups-edited.csv", "groups-edited-2.csv"):
        groups.write_bytes(edited)
        [remark] = build().remarks
        assert name in remark
        assert "decisions.csv" in remark
        assert groups.read_bytes() == written
        assert Path("out", name).read_bytes() == edited
        assert build().remarks == []
    groups.write_bytes(b"\xef\xbb\xbf" + written.replace(b",", b";"))
    assert build().remarks == [], "a spreadsheet has only saved it"
    groups.unlink()
    assert build().remarks == []
    assert groups.read_bytes() == written
    assert len(list(Path("out").glob("groups*"))) == 3


@pytest.mark.parametrize("change", [
    lambda text: b"\xef\xbb\xbf" + text.replace(b",", b";"), lambda text: text.replace(b",1,", b",one,"),
    lambda text: text[: len(text) // 2], lambda text: text.replace(b",copy,", b",copy,,"), lambda text: b"",
    lambda text: b'"' + text])
def test_a_damaged_table_is_told_and_written_anew(build: Build, change: Callable[[bytes], bytes]) -> None:
    build()
    table = Path("out/photos.csv")
    written = table.read_bytes()
    table.write_bytes(change(written))
    with pytest.raises(DelfError, match=r"photos\.csv is damaged .*delf dataset build"):
        split_dataset("out")
    [remark] = build().remarks
    assert "photos.csv was damaged" in remark
    assert table.read_bytes() == written


def test_stopped_while_it_writes_it_goes_on(build: Build, draw: Callable[..., Path],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    build()
    whole = {path.name: path.read_bytes() for path in Path("out").glob("*.csv")}
    draw("in/e.png", 9)
    shutil.copy("in/e.png", "in/e2.png")
    build()
    wanted = {path.name: path.read_bytes() for path in Path("out").glob("*.csv")}
    state = Path("out/state.json").read_bytes()
    assert whole != wanted
    for calls in range(7):  # as many files are written, and once nothing stops it
        left = [calls]

        def write(path: Path, data: bytes, *rest: Any, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            write_atomically(path, data, *rest)

        for name, data in whole.items():
            Path("out", name).write_bytes(data)
        before = json.loads(state)
        before["groups"].pop("5")
        before |= {"next": 5, "written": before["written"][1:]}
        Path("out/state.json").write_text(json.dumps(before))
        with monkeypatch.context() as patch:
            for module in ("delf.archive.tables", "delf.duplicates.table"):
                patch.setattr(f"{module}.write_atomically", write)
            if calls < 6:
                with pytest.raises(KeyboardInterrupt):
                    build()
            else:
                build()
        assert build().remarks == [], "nobody has edited what was cut short"
        assert {path.name: path.read_bytes() for path in Path("out").glob("*.csv")} == wanted
    assert tables.read_state(Path("out")).next == 6


def test_interrupted_beside_another_collection_it_goes_on(build: Build) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    Path("out").mkdir()
    Path("out/pairs.npz").write_bytes(b"correspondences of somebody")
    with pytest.raises(DelfError, match="holds other files"):
        build(collection="elsewhere.delf")
    Path("out/pairs.npz").unlink()
    assert build(collection="elsewhere.delf", matching=interrupt).interrupted
    assert [path.name for path in Path("out").iterdir()] == ["pairs.npz"]
    assert len(build(collection="elsewhere.delf").landmarks) == 4
    assert len(build().landmarks) == 4, "where the collection is, is remembered"


def test_run_again_nothing_changes(build: Build) -> None:
    build()
    files = {path: path.read_bytes() for path in Path("out").glob("*.*") if path.is_file()}
    again = build()
    assert again.added.added == 0
    assert {path: path.read_bytes() for path in files if path.name != "state.json"} == {
        path: data for path, data in files.items() if path.name != "state.json"}


def test_photos_come_and_go(build: Build, draw: Callable[..., Path]) -> None:
    build()
    before = groups_of(Path("out"))
    for name in ("a.png", "a2.png", "b.png"):
        Path("in", name).unlink()
    draw("in/e.png", 7)
    shutil.copy("in/e.png", "in/e2.png")
    after = [build(prune=True) and groups_of(Path("out")) for _ in range(2)]
    assert after[0] == after[1] == {"b2": "", "c": before["c"], "c2": before["c"], "d": before["d"], "d2": before["d"],
                                    "e": "5", "e2": "5"}, "no number is given twice, and one file alone is no group"
    draw("in/b.png", 1)
    draw("in/a.png", 0)
    shutil.copy("in/a.png", "in/a2.png")
    build()
    assert groups_of(Path("out")) == {**before, "e": "5", "e2": "5"}, "what comes back has its number"


@pytest.mark.parametrize("seed", [2, 6])
def test_whatever_is_decided_is_honoured_or_told(build: Build, seed: int) -> None:
    """Lines by chance, which contradict each other, name nothing, or one thing twice."""
    build()
    rng = random.Random(seed)
    names = [f"in/{letter}{copy}.png" for letter in "abc" for copy in ("", "2")]
    for _ in range(10):
        lines = [(action, rng.choice([*names, "1", "4", "Tower", "absent.jpg"]), rng.choice(names))
                 for action in rng.choices(["merge", "split", "remove", "landmark", "rename"], (4, 4, 1, 1, 1), k=5)]
        lines = [(action, first, {"merge": second, "split": second, "rename": "Tower"}.get(action, ""))
                 for action, first, second in lines]
        try:
            built = build("".join(f"{','.join(line)},\n" for line in lines))
        except DelfError as error:
            assert "contradicts itself" in str(error)
            continue
        groups = {row.file: row.group for row in built.photos}
        removed = {row.file for row in built.photos if row.role == "removed"}
        for number, (action, first, second) in enumerate(lines, start=2):
            if action in ("merge", "split") and {first, second} <= groups.keys() - removed:
                told = any(f"line {number} " in remark for remark in built.remarks)
                together = groups[first] is not None and groups[first] == groups[second]
                assert told or together == (action == "merge"), lines
        assert {row.file: row.group for row in build().photos} == groups
