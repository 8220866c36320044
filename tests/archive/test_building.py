"""From photos to a data set: real photos and what they join, files that stay true, decisions, and bad input."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from delf.archive import BuildOptions, Decision, Review, append_decision, build_dataset, read_landmarks, read_photos
from delf.collection import Collection
from delf.errors import DelfError, ImageError, OptionError
from delf.grouping import pairs as matching

SIDES = ("astronaut", "coffee", "rocket")  # there are two photos of each


def groups_of(folder: Path) -> dict[str, str]:
    """The group of each photo by the name of its file."""
    with (folder / "groups.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "group"]
    return {Path(name).name: group for name, group in rows[1:]}


@pytest.fixture
def build(photos: Path, extractor: Any, places: Path, tmp_path: Path) -> Callable[..., Any]:
    """Builds from the real photos, whose features are there already."""
    return lambda *given, **options: build_dataset(given or [photos], tmp_path / "out", extractor, collection=places,
                                                   **options)


def test_photos_of_one_thing_are_a_group(build: Callable[..., Any], photos: Path, tmp_path: Path) -> None:
    built = build()
    groups = groups_of(tmp_path / "out")
    assert len(groups) == 12
    for thing in SIDES:
        assert groups[f"{thing}.jpg"] == groups[f"{thing}-side.jpg"] != ""
    assert sum(group == "" for group in groups.values()) == 6
    assert sorted(row.group for row in built.landmarks) == [1, 2, 3]
    for row in built.photos:
        assert row.file == str(photos / Path(row.file).name), "as it was found: below what was given"
    assert built.to_json()["grouped"] == 6
    assert read_photos(tmp_path / "out") == list(built.photos)


def test_new_photos_join_groups_and_only_they_are_looked_at(
        build: Callable[..., Any], photos: Path, extractor: Any, places: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    new = [photos / "coffee-side.jpg", photos / "rocket.jpg"]
    old = [path for path in sorted(photos.iterdir()) if path not in new]
    with Collection.open(places) as opened:
        opened.remove(new)
    build(*old)
    before = groups_of(tmp_path / "out")
    looked: list[int] = []
    judged = matching._Matcher.judged
    monkeypatch.setattr(matching._Matcher, "judged", lambda self, ordinal, *rest: looked.append(ordinal) or judged(
        self, ordinal, *rest))
    build(*new)
    after = groups_of(tmp_path / "out")
    assert len(looked) == 2
    assert after["astronaut.jpg"] == before["astronaut.jpg"], "numbers stay"
    assert after["coffee.jpg"] == after["coffee-side.jpg"] != ""
    looked.clear()
    build()
    assert looked == []
    assert groups_of(tmp_path / "out") == after


def test_decisions_are_kept_and_undone(build: Callable[..., Any], photos: Path, extractor: Any,
                                       tmp_path: Path) -> None:
    build()
    folder = tmp_path / "out"
    known = groups_of(folder)
    review = Review.open(folder)
    number = int(known["coffee.jpg"])
    assert len(review.photos_of(number)) == 2
    match = review.evidence(str(photos / "coffee.jpg"), str(photos / "coffee-side.jpg"), extractor)
    assert match.probability > 0.9
    review.decide("merge", known["astronaut.jpg"], known["rocket.jpg"])
    review.decide("rename", known["astronaut.jpg"], "Space")
    review.decide("split", str(photos / "coffee.jpg"), str(photos / "coffee-side.jpg"), "two cups")
    review.decide("no-landmark", "Space")
    review.decide("merge", str(photos / "cat.jpg"), str(photos / "camera.jpg"))
    with pytest.raises(DelfError, match=r"line 7 \(split .*line 2 puts together"):
        review.decide("split", known["astronaut.jpg"], known["rocket.jpg"])
    with pytest.raises(DelfError, match="nothing was written"):
        review.decide("remove", "absent.jpg")
    for _ in range(2):  # the numbers mean the same when their groups have become one
        groups = {} if build() is None else groups_of(folder)
        space = {name for name, group in groups.items() if group == "Space"}
        assert space == {"astronaut.jpg", "astronaut-side.jpg", "rocket.jpg", "rocket-side.jpg"}
        assert groups["coffee.jpg"] == groups["coffee-side.jpg"] == ""
        assert groups["cat.jpg"] == groups["camera.jpg"] != ""
    assert [row.landmark for row in read_landmarks(folder) if row.name == "Space"] == ["no"]
    assert any(bridge.why == "decision" for bridge in Review.open(folder).bridges)
    while review.undo() is not None:
        pass
    assert (folder / "decisions.csv").read_text() == "action,first,second,note\n"
    build()
    assert groups_of(folder)["astronaut.jpg"] == known["astronaut.jpg"]
    assert groups_of(folder)["coffee.jpg"] == groups_of(folder)["coffee-side.jpg"] != ""


def test_thrown_out_contradicted_and_strange_decisions(build: Callable[..., Any], photos: Path,
                                                       tmp_path: Path) -> None:
    folder = tmp_path / "out"
    build()
    known = groups_of(folder)
    lines = ["action,first,second,note", f"remove,{photos / 'coffee.jpg'},,", f"remove,{known['rocket.jpg']},,",
             f"rename,{'9' * 5000},Nowhere,", f"merge,{photos / 'coffee.jpg'},{photos / 'cat.jpg'},",
             f"rename,{known['astronaut.jpg']},Tom,", f"landmark,{photos / 'cell.jpg'},,"]
    (folder / "decisions.csv").write_text("\n".join(lines))
    built = build()
    groups = groups_of(folder)
    assert {name for name, group in groups.items() if group} == {"astronaut.jpg", "astronaut-side.jpg"}
    roles = {Path(row.file).name: row.role for row in built.photos}
    assert roles["coffee.jpg"] == roles["rocket.jpg"] == roles["rocket-side.jpg"] == "removed"
    assert [remark.split(" of ")[0] for remark in built.remarks] == ["line 4", "line 5", "line 7"]
    (folder / "decisions.csv").write_text("\n".join([
        *lines[:1], f"split,{photos / 'cat.jpg'},{photos / 'cell.jpg'},",
        f"merge,{photos / 'cat.jpg'},{photos / 'coins.jpg'},", f"merge,{photos / 'coins.jpg'},{photos / 'cell.jpg'},"]))
    with pytest.raises(DelfError, match=r"contradicts itself: line 2 .*lines 3, 4 put together"):
        build()
    assert groups_of(folder) == groups, "what was there stays"


def test_copies_are_one_photo_and_damaged_ones_are_told(stub: Any, draw: Callable[..., Path], tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw("in/a.png", 1)
    draw("in/b.png", 2)
    shutil.copy("in/a.png", "in/c.png")
    Path("in/broken.jpg").write_bytes(b"no picture")
    built = build_dataset(["in"], "out", stub)
    assert groups_of(Path("out")) == {"a.png": "1", "b.png": "", "c.png": "1"}
    assert [(row.file, row.role, row.of) for row in built.photos] == [
        ("in/a.png", "representative", ""), ("in/b.png", "alone", ""), ("in/c.png", "copy", "in/a.png")]
    assert len(built.added.skipped) == 1
    monkeypatch.chdir("out")  # seen from elsewhere, a name that does not lead there is absolute
    build_dataset([], ".", stub)
    assert all(Path(row.file).is_file() for row in read_photos(Path()))
    append_decision(Path("decisions.csv"), Decision("remove", str(tmp_path / "in" / "c.png")))
    assert {row.role for row in build_dataset([], ".", stub).photos} == {"removed", "alone"}


def test_a_banner_in_all_photos_joins_none(half_size: Path, extractor: Any, tmp_path: Path) -> None:
    banner = Image.open(half_size / "coins.jpg").convert("RGB").resize((256, 48))
    (tmp_path / "in").mkdir()
    for name in ("astronaut", "camera", "cat", "coffee", "rocket"):
        photo = Image.open(half_size / f"{name}.jpg").convert("RGB").resize((256, 200))
        photo.paste(banner, (0, 152))
        photo.save(tmp_path / "in" / f"{name}.png")
    usual = BuildOptions()
    blind = replace(usual.pairs, verification=replace(usual.pairs.verification, overlays=None))
    for options, groups in ((usual, {None}), (replace(usual, pairs=blind), {1})):
        built = build_dataset([tmp_path / "in"], tmp_path / "out", extractor, options=options)
        assert {row.group for row in built.photos} == groups


def test_positions_are_believed_as_far_as_they_can_be(stub: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    files = [draw(f"in/{number}.png", number) for number in range(60)]
    rows = [f"{path},{'43.95' if at < 52 else 43.951 + at / 1e6},4.81" for at, path in enumerate(files[:56])]
    rows += [f"{files[56]},0,0", f"{files[57]},95,4", "absent.jpg,1,2", f"{files[58]},,", "in/59.png,1,x"]
    (tmp_path / "where.csv").write_text("\n".join(["file,latitude,longitude", *rows]))
    built = build_dataset([tmp_path / "in"], tmp_path / "out", stub, positions=tmp_path / "where.csv")
    assert sum(row.latitude is not None for row in built.photos) == 56
    assert {row.place for row in built.photos} == {0, None}
    with (tmp_path / "out" / "places.csv").open(newline="") as file:
        [place] = csv.DictReader(file)
    assert (place["photos"], place["groups"], round(float(place["latitude"]), 2)) == ("56", "", 43.95)
    told = " ".join(built.remarks)
    for words in ("1 line of", "line 60", "3 lines", "lines 58, 59, 62".replace("lines ", "line "), "52 photos lie at"):
        assert words in told, told
    assert build_dataset([], tmp_path / "out", stub).photos == built.photos, "positions are remembered"
    (tmp_path / "where.csv").write_text("name,lat\n")
    with pytest.raises(DelfError, match="file,latitude,longitude"):
        build_dataset([], tmp_path / "out", stub, positions=tmp_path / "where.csv")
    (tmp_path / "where.csv").unlink()
    with pytest.raises(DelfError, match="cannot be read"):
        build_dataset([], tmp_path / "out", stub)


def test_positions_are_read_from_exif(stub: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(4):
        exif = Image.Exif()
        exif[ExifTags.Base.GPSInfo] = {1: "S", 2: (16.0, 30.0, number / 10), 3: "EW"[number % 2],
                                       4: (179.0, 59.0, 59.0)} if number < 3 else {}
        draw(f"in/{number}.png", number, exif=exif)
    built = build_dataset([tmp_path / "in"], tmp_path / "out", stub)
    assert [row.place for row in built.photos] == [0, 0, 0, None], "62 m from each other, over the date line"
    assert [round(row.longitude) for row in built.photos[:3] if row.longitude is not None] == [180, -180, 180]


def test_photos_that_are_gone_are_forgotten_on_request(stub: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    files = [draw(f"in/{number}.png", number) for number in range(4)]
    build_dataset([tmp_path / "in"], tmp_path / "out", stub)
    files[0].unlink()
    assert len(build_dataset([tmp_path / "in"], tmp_path / "out", stub).photos) == 4
    assert len(build_dataset([tmp_path / "in"], tmp_path / "out", stub, prune=True).photos) == 3
    files[1].unlink()
    assert len(build_dataset(files[1:3], tmp_path / "out", stub, prune=True).photos) == 2, "the path itself is gone"


def test_interrupted_it_goes_on(make_stub: Callable[..., Any], draw: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(4):
        draw(f"in/{number}.png", number)
    built = build_dataset([tmp_path / "in"], tmp_path / "out", make_stub(interrupt_after=2))
    assert built.interrupted
    assert not (tmp_path / "out" / "groups.csv").exists()
    again = make_stub()
    assert not build_dataset([tmp_path / "in"], tmp_path / "out", again).interrupted
    assert again.extracted == 2
    assert len(groups_of(tmp_path / "out")) == 4


def test_interrupted_while_photos_are_matched_it_goes_on(stub: Any, draw: Callable[..., Path], tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        draw(f"in/{number}.png", number)
    looked: list[int] = []
    judged = matching._Matcher.judged

    def look(self: Any, ordinal: int, *rest: Any) -> Any:
        if len(looked) == 3:
            raise KeyboardInterrupt
        looked.append(ordinal)
        return judged(self, ordinal, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(matching._Matcher, "judged", look)
        built = build_dataset([tmp_path / "in"], tmp_path / "out", stub)
    assert built.interrupted
    assert built.matched == (3, 5)
    assert not (tmp_path / "out" / "groups.csv").exists()
    done = looked.copy()
    looked.clear()
    monkeypatch.setattr(matching._Matcher, "judged", look)
    assert not build_dataset([tmp_path / "in"], tmp_path / "out", stub).interrupted
    assert sorted(done + looked) == list(range(5))


def test_its_own_folder_is_not_among_the_photos(stub: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("in/a.png", 1)
    draw("in/out [1]/images/b.png", 2)
    shutil.rmtree(tmp_path / "in/out [1]/images")
    build_dataset([tmp_path / "in"], tmp_path / "in/out [1]", stub)
    draw("in/out [1]/images/b.png", 2)
    assert len(build_dataset([tmp_path / "in"], tmp_path / "in/out [1]", stub).photos) == 1


def test_what_cannot_be_a_data_set_is_told(stub: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    draw("in/a.png", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DelfError, match="holds other files"):
        build_dataset([tmp_path / "in"], tmp_path / "in", stub)
    with pytest.raises(DelfError, match="has no photos yet"):
        build_dataset([], tmp_path / "new", stub)
    with pytest.raises(DelfError, match="no photo to build"):
        build_dataset([tmp_path / "empty"], tmp_path / "new", stub)
    with pytest.raises(ImageError, match="There is no file"):
        build_dataset([tmp_path / "absent"], tmp_path / "other", stub)
    assert not (tmp_path / "other").exists()
    build_dataset([tmp_path / "in"], tmp_path / "new", stub)
    (tmp_path / "new" / "state.json").write_text(json.dumps({"format": 1}))
    with pytest.raises(DelfError, match="which number each group has"):
        build_dataset([], tmp_path / "new", stub)
    (tmp_path / "new" / "state.json").unlink()
    (tmp_path / "new" / "photos.csv").write_text("file\n")
    with pytest.raises(DelfError, match="is damaged"):
        read_photos(tmp_path / "new")
    assert "is written anew" in build_dataset([], tmp_path / "new", stub).remarks[0]
    assert len(read_photos(tmp_path / "new")) == 1
    (tmp_path / "new" / "photos.csv").unlink()
    (tmp_path / "new" / "pairs.npz").write_bytes(os.urandom(50))
    assert len(build_dataset([], tmp_path / "new", stub).photos) == 1, "pairs can be found again"
    with pytest.raises(OptionError, match="radius"):
        from delf.archive import PlaceOptions

        PlaceOptions(radius_km=0)
