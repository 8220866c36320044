"""Labelled photos: what others of their class verify stays, and why the rest does not is told."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from delf.archive import CleanOptions, clean_photos, judge_labels
from delf.errors import DelfError, OptionError
from delf.grouping import Pairs
from delf.training.photos import LabelledPhoto, SplitOptions, read_photos


def labelled(*labels: str) -> list[LabelledPhoto]:
    return [LabelledPhoto(Path(f"{at}.jpg"), label) for at, label in enumerate(labels)]


def test_wrong_labels_are_found_by_what_verifies(pairs_of: Callable[..., Pairs]) -> None:
    photos = labelled("a", "a", "a", "a", "b", "b", "b", "c", "a", "b", "d", "e")
    images = [0, 1, 2, 3, 4, 5, 6, 7, None, 9, 10, 10]
    pairs = pairs_of(*((one, other, 0.9) for one, other in combinations((0, 1, 2), 2)),  # three of a
                     *((one, other, 0.9) for one, other in combinations((3, 4, 5, 6), 2)),  # 3 is one of b
                     (0, 9, 0.2), (0, 3, 0.4))
    judged = judge_labels(photos, images, pairs)
    assert [one.why.split(" ")[0] for one in judged] == ["", "", "", "too", "", "", "", "it", "it", "no", "a", "a"]
    assert judged[3].likelier == "b"
    assert judged[7].why == "it is alone in its class"
    assert judged[8].why == "it cannot be read"
    assert judged[9].why == "no other of its class verifies it"
    assert "another class (e)" in judged[10].why
    assert judged[0].partners == 3
    more = pairs_of((0, 1, 0.7), (0, 4, 0.99), (0, 5, 0.99))
    assert judge_labels(labelled("a", "a", "x", "x", "b", "b"), list(range(6)), more)[0].why == (
        "another class verifies it more")
    assert judge_labels(labelled("a", "a"), [0, 1], pairs_of((0, 1, 0.5)), CleanOptions(enough=0.5))[0].why == ""
    with pytest.raises(OptionError, match="likely"):
        CleanOptions(enough=0)


def test_planted_photos_are_left_out_of_real_ones(photos: Path, matched: Path, extractor: Any,
                                                  tmp_path: Path) -> None:
    place = Path(shutil.copytree(matched, tmp_path / "copy.delf"))
    classes = {"astronaut.jpg": "astronaut", "astronaut-side.jpg": "astronaut", "cat.jpg": "astronaut",
               "coffee.jpg": "coffee", "coffee-side.jpg": "coffee", "rocket.jpg": "coffee", "rocket-side.jpg": "rocket",
               "coins.jpg": "rocket"}
    cleaned = clean_photos([LabelledPhoto(photos / name, label) for name, label in classes.items()], place, extractor)
    assert {photo.path.name for photo in cleaned.kept} == {"astronaut.jpg", "astronaut-side.jpg", "coffee.jpg",
                                                           "coffee-side.jpg"}
    left_out = cleaned.write(tmp_path / "clean.csv")
    assert {photo.path for photo in read_photos(tmp_path / "clean.csv")} == {photo.path for photo in cleaned.kept}
    with left_out.open(newline="") as file:
        rows = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    assert rows["rocket.jpg"]["likelier"] == "rocket"
    assert len(rows) == 4


def test_interrupted_nothing_is_judged(make_stub: Callable[..., Any], draw: Callable[..., Path],
                                       tmp_path: Path) -> None:
    photos = [LabelledPhoto(draw(f"a/{number}.png", number), "a") for number in range(3)]
    found = clean_photos(photos, tmp_path / "c.delf", make_stub(interrupt_after=1))
    assert found.interrupted and not found.judged


def test_lists_as_people_have_them_are_judged(stub: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    for number in range(3):
        draw(f"in/{number}.png", number)
    (tmp_path / "labels.csv").write_bytes(
        "\ufeffFile;Class\r\nin/0.png;a\r\nin/0.png;a\r\nin/1.png;a\r\nin/1.png;b\r\nin/gone.png;a\r\nin;a\r\n"
        "in/2.png;alone\r\n".encode())
    labelled = read_photos(tmp_path / "labels.csv", options=SplitOptions(minimum=1))
    cleaned = clean_photos(labelled, tmp_path / "c.delf", stub)
    assert [(one.photo.path.name, one.photo.label, one.why) for one in cleaned.judged] == [
        ("0.png", "a", "no other of its class verifies it"), ("1.png", "a", "a copy of it is in another class (b)"),
        ("1.png", "b", "a copy of it is in another class (a)"), ("gone.png", "a", "there is no such file"),
        ("in", "a", "there is no such file"), ("2.png", "alone", "it is alone in its class")]
    assert cleaned.added.added == 3, "a folder in a list is no photo"
    with pytest.raises(DelfError, match=r"gone\.png is no file.*--images"):
        clean_photos([LabelledPhoto(tmp_path / "gone.png", "a")], tmp_path / "d.delf", stub)
    assert not (tmp_path / "d.delf").exists()
