"""The work of a job without a cluster: pieces, their segments, and putting them into the manifest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.cluster import Store
from delf.cluster.folding import Known, folded
from delf.cluster.listing import find_photos
from delf.cluster.manifest import SegmentEntry
from delf.cluster.pieces import Piece, PieceReport, cut
from delf.cluster.work import Job, UnreachableError, index_piece
from delf.collection import Collection
from delf.collection.records import FileRecord
from delf.errors import CollectionError, ImageError, OptionError


def found(folder: Path) -> list[FileRecord]:
    return list(find_photos([folder], on_error=pytest.fail))


def done(store: Store, extractor: Any, photos: Sequence[FileRecord]) -> PieceReport:
    *_, report = index_piece(Job(store.url, store.manifest, extractor), Piece(tuple(photos)))
    assert isinstance(report, PieceReport)
    return report


def fold(store: Store, *reports: PieceReport) -> int:
    known = Known.of(store.facts(entry) for entry in store.manifest.segments)
    entries: list[SegmentEntry] = [one.entry for one in reports if one.entry is not None]
    manifest, copies = folded(store, known, entries)
    store.publish(manifest)
    return copies


def seen(collection: Collection) -> list[Any]:
    return [(image.key, image.path, image.files) for image in collection]


@pytest.fixture
def store(tmp_path: Path, stub: Any) -> Store:
    return Store.create(tmp_path / "places.store", stub.identity)


# --- pieces


def test_a_photo_changes_the_piece_that_it_is_in_and_no_other() -> None:
    photos = [FileRecord(f"/photos/{number:04}.jpg".encode(), b"", number, 0) for number in range(400)]
    pieces = list(cut(photos, 16))
    assert [photo for piece in pieces for photo in piece.photos] == photos
    assert len(pieces) > 15
    assert max(len(piece.photos) for piece in pieces) <= 32
    before = {piece.id for piece in pieces}
    more = sorted([*photos, FileRecord(b"/photos/0123x.jpg", b"", 1, 0)], key=lambda one: one.path)
    assert len({piece.id for piece in cut(more, 16)} - before) <= 2
    changed = [replace(one, mtime_ns=1) if one is photos[77] else one for one in photos]
    assert len({piece.id for piece in cut(changed, 16)} - before) == 1
    without = [one for one in photos if one not in pieces[3].photos]  # of which a piece was published
    assert {piece.id for piece in cut(without, 16)} < before
    with pytest.raises(OptionError, match="1 photo or more"):
        next(cut(photos, 0))


def test_what_became_of_a_piece_comes_back(store: Store, stub: Any, pictures: Path) -> None:
    report = done(store, stub, found(pictures))
    data = store.location.read(report.name)
    assert data is not None
    assert PieceReport.from_json(data, "here") == report
    with pytest.raises(CollectionError, match="here is damaged"):
        PieceReport.from_json(data[:-1], "here")


# --- one piece


def test_a_piece_is_what_a_collection_makes_of_its_photos(store: Store, stub: Any, pictures: Path,
                                                          tmp_path: Path) -> None:
    shutil.copy(pictures / "3.png", pictures / "8-copy.png")
    (pictures / "bad.jpg").write_bytes(b"no picture")
    report = done(store, stub, [*found(pictures), FileRecord(os.fsencode(pictures / "gone.jpg"), b"", 1, 1)])
    assert (report.read, report.copies) == (10, 1)
    assert [source for source, _ in report.skipped] == [str(pictures / "bad.jpg"), str(pictures / "gone.jpg")]
    assert fold(store, report) == 0
    with store.as_collection(tmp_path / "part.delf") as part, \
            Collection.create(tmp_path / "made.delf", stub) as made:
        made.add([pictures])
        assert seen(part) == seen(made)
        for ordinal in range(10):
            one, other = part.features(ordinal), made.features(ordinal)
            for name in ("keypoints", "scales", "scores", "descriptors", "global_descriptor"):
                assert np.array_equal(getattr(one, name), getattr(other, name))
        part.catalogue.file(os.fsencode(pictures / "1.png"))
        assert part.catalogue.file(os.fsencode(pictures / "1.png")) == made.catalogue.file(
            os.fsencode(pictures / "1.png"))


def test_a_folder_that_is_not_there_is_not_taken_for_bad_photos(store: Store, stub: Any, tmp_path: Path) -> None:
    photos = [FileRecord(os.fsencode(tmp_path / f"elsewhere/{number}.jpg"), b"", 1, 1) for number in range(3)]
    with pytest.raises(UnreachableError, match="the same path"):
        done(store, stub, photos)


def test_a_piece_that_is_cut_short_leaves_no_segment(store: Store, make_stub: Callable[..., Any],
                                                     pictures: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        done(store, make_stub(interrupt_after=4), found(pictures))
    assert store.location.names("segments") == store.location.names("pieces") == []


def test_workers_load_a_model_on_their_own_device(store: Store, stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that gives out the work may have none."""
    from delf.features import Delf

    model, asked = Delf.load("delf-r18-int8", threads=1, max_features=50), dict[str, Any]()
    assert Job(store.url, store.manifest, model).here().extractor is model
    assert Job(store.url, store.manifest, stub, "cuda").here().extractor is stub
    monkeypatch.setattr(Delf, "load", lambda source, **options: asked.update(options, source=source))
    Job(store.url, store.manifest, model, "cuda").here()
    assert (asked["source"], asked["device"], asked["threads"], asked["max_features"]) == (
        "delf-r18-int8", "cuda", 1, 50)


# --- pieces together


def test_copies_in_several_pieces_are_one_image(store: Store, stub: Any, pictures: Path, tmp_path: Path) -> None:
    shutil.copy(pictures / "1.png", pictures / "7-copy.png")
    shutil.copy(pictures / "1.png", pictures / "9-copy.png")
    photos = found(pictures)
    assert fold(store, done(store, stub, photos[:5])) == 0
    assert fold(store, done(store, stub, photos[5:9]), done(store, stub, photos[9:])) == 2
    assert [entry.alive for entry in store.manifest.segments] == [5, 3, 2]
    assert store.manifest.images == 10
    with store.as_collection(tmp_path / "part.delf") as part, \
            Collection.create(tmp_path / "made.delf", stub) as made:
        made.add([pictures])
        assert seen(part) == seen(made)
        assert len(part[str(pictures / "9-copy.png")].files) == 3


def test_a_file_that_changed_leaves_the_image_that_it_had(store: Store, stub: Any, pictures: Path, tmp_path: Path,
                                                          draw: Callable[..., Path]) -> None:
    shutil.copy(pictures / "2.png", pictures / "3.png")  # a copy, which goes on when the first file changes
    fold(store, done(store, stub, found(pictures)))
    known = Known.of(store.facts(entry) for entry in store.manifest.segments)
    draw("pictures/1.png", 101, size=(80, 60))
    draw("pictures/2.png", 102, size=(80, 60))
    new = [photo for photo in found(pictures) if not known.has(photo)]
    assert [Path(os.fsdecode(photo.path)).name for photo in new] == ["1.png", "2.png"]
    assert fold(store, done(store, stub, new)) == 0
    assert store.manifest.images == 10
    with store.as_collection(tmp_path / "part.delf") as part, \
            Collection.create(tmp_path / "made.delf", stub) as made:
        made.add([pictures])
        assert sorted(seen(part)) == sorted(seen(made))


def test_a_segment_in_which_nothing_is_left_is_named_no_more(store: Store, stub: Any, pictures: Path) -> None:
    photos = found(pictures)
    fold(store, done(store, stub, photos))
    again = done(store, stub, photos[:4])  # as after a job whose driver was killed when it had published
    assert fold(store, again) == 4
    assert (store.manifest.images, len(store.manifest.segments), len(store.manifest.dropped)) == (10, 1, 2)


# --- finding photos


def test_photos_are_found_as_in_folders(pictures: Path, tmp_path: Path) -> None:
    (pictures / "Thumbs").mkdir()
    shutil.copy(pictures / "1.png", pictures / "Thumbs/1.png")
    shutil.copy(pictures / "1.png", pictures / "raw.nef")
    names = [os.fsdecode(photo.path) for photo in find_photos([pictures, f"file://{pictures}/1.png"],
                                                              exclude=["5*"], on_error=pytest.fail)]
    assert names == [str(pictures / f"{number}.png") for number in range(10) if number != 5]
    with pytest.raises(ImageError, match="no file or folder"):
        find_photos([tmp_path / "missing"], on_error=pytest.fail)
