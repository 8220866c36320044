"""Features from one form into another: every source, both kinds of target, and what is gone on with."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.collection import Collection
from delf.converting import convert, open_source
from delf.errors import DelfError, OptionError
from delf.formats import colmap, open_images, read_features, write_features, write_images
from delf.formats.colmap import Camera
from delf.types import Features


def features(count: int, seed: int = 0) -> Features:
    rng = np.random.default_rng(seed)
    return Features(rng.uniform(0, 9, (count, 2)).astype(np.float32), *rng.uniform(1, 2, (2, count)).astype(np.float32),
                    rng.normal(size=(count, 4)).astype(np.float32), (10, 12))


IMAGES = {"a b.jpg": features(3), "deep/c.jpg": features(0), "deep/d.jpg": features(2, 1)}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    pytest.importorskip("h5py")
    write_images(tmp_path / "many.h5", IMAGES.items(), '{"model": 1}')
    return tmp_path / "many.h5"


def counts(report: Any) -> tuple[int, int, int]:
    return report.written, report.unchanged, len(report.skipped)


@pytest.mark.parametrize("form", ["npz", "delf", "csv"])
def test_into_a_folder_and_back(many: Path, tmp_path: Path, form: str) -> None:
    calls: list[tuple[int, int]] = []
    assert counts(convert(many, tmp_path / "out", form, progress=lambda *done: calls.append(done))) == (3, 0, 0)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob(f"*.{form}")) == [
        f"{name}.{form}" for name in IMAGES]
    assert counts(convert(tmp_path / "out", tmp_path / "again.h5")) == (3, 0, 0)
    with open_images(tmp_path / "again.h5") as images:
        for name, expected in IMAGES.items():
            assert np.array_equal(images[name].keypoints, expected.keypoints)
            assert len(expected) == 0 or np.array_equal(images[name].descriptors, expected.descriptors)


def test_what_is_there_is_passed_over(many: Path, tmp_path: Path) -> None:
    convert(many, tmp_path / "out", "npz")
    (tmp_path / "out" / "a b.jpg.npz").unlink()
    assert counts(convert(many, tmp_path / "out", "npz")) == (1, 2, 0)
    os.utime(many, ns=(2**62, 2**62))
    assert counts(convert(many, tmp_path / "out", "npz")) == (3, 0, 0)


def test_an_interrupted_conversion_goes_on(many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")

    def interrupted(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(many, tmp_path / "out.parquet", progress=interrupted)
    assert not (tmp_path / "out.parquet").exists()
    assert counts(convert(many, tmp_path / "out.parquet")) == (1, 2, 0)
    with open_images(tmp_path / "out.parquet") as images:
        assert images.about == '{"model": 1}'
        assert {name: len(one) for name, one in images.items()} == {name: len(one) for name, one in IMAGES.items()}


def test_a_damaged_file_of_a_folder_is_left_out(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    (tmp_path / "in").mkdir()
    write_features(tmp_path / "in" / "good.jpg.npz", features(2))
    (tmp_path / "in" / "bad.jpg.npz").write_bytes(b"?")
    (tmp_path / "in" / "notes.txt").write_text("no features")
    report = convert(tmp_path / "in", tmp_path / "out.h5")
    assert counts(report) == (1, 0, 1)
    assert "bad.jpg" in report.skipped[0]


def test_two_files_of_one_photo(tmp_path: Path) -> None:
    for form in ("npz", "csv"):
        write_features(tmp_path / f"a.jpg.{form}", features(2))
    with pytest.raises(DelfError, match=r"are both of the photo 'a\.jpg'"):
        convert(tmp_path, tmp_path / "out.h5")


def test_a_single_file(tmp_path: Path) -> None:
    write_features(tmp_path / "a.jpg.npz", features(2))
    assert counts(convert(tmp_path / "a.jpg.npz", tmp_path / "out", "csv")) == (1, 0, 0)
    assert len(read_features(tmp_path / "out" / "a.jpg.csv")) == 2


def test_a_database_of_colmap_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "in" / "d.db"
    path.parent.mkdir()
    colmap.write(path, [(name, one, Camera((10, 12), 12.0)) for name, one in IMAGES.items()], [])
    with sqlite3.connect(path) as base:
        base.execute("UPDATE images SET name = '../../stolen.jpg' WHERE name = 'a b.jpg'")
    base.close()
    report = convert(path, tmp_path / "in" / "out", "npz")
    assert counts(report) == (2, 0, 1)
    assert "leads out of the folder" in report.skipped[0]
    assert not list(tmp_path.rglob("stolen*"))


def test_a_collection(tmp_path: Path, stub: Any, draw: Any) -> None:
    pytest.importorskip("h5py")
    draw("in/a.png", 1), draw("in/deep/b.png", 2)
    with Collection.create(tmp_path / "c.delf", stub) as made:
        made.add([tmp_path / "in"])
        expected = made.snapshot.features(made.snapshot.ordinal_of(tmp_path / "in/deep/b.png"))
    assert counts(convert(tmp_path / "c.delf", tmp_path / "out.h5")) == (2, 0, 0)
    with open_images(tmp_path / "out.h5") as images:
        assert list(images) == ["a.png", "deep/b.png"]
        assert np.array_equal(images["deep/b.png"].descriptors, expected.descriptors)
        assert '"fingerprint": "00112233445566778899"' in images.about
    with open_source(tmp_path / "c.delf", tmp_path) as images:
        assert list(images) == ["in/a.png", "in/deep/b.png"]


@pytest.mark.parametrize(("target", "form", "words"), [
    ("out.h5", "npz", "leave out the form"), ("out", None, "needs one of the forms"), ("out", "pkl", "not 'pkl'")])
def test_wrong_usage(many: Path, tmp_path: Path, target: str, form: str | None, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        convert(many, tmp_path / target, form)


def test_sources_without_features(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DelfError, match="no features in"):
        convert(tmp_path / "empty", tmp_path / "out", "npz")
    for name in ("gone.h5", "gone", "gone.npz", "gone.db"):
        with pytest.raises(DelfError, match="gone"):
            convert(tmp_path / name, tmp_path / "out", "npz")
