"""A store, and photos, in an object store on this machine."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from delf.cluster import Store, compact, publish, remove
from delf.cluster.folding import Known, folded
from delf.cluster.listing import find_photos
from delf.cluster.pieces import Piece, PieceReport
from delf.cluster.work import Job, index_piece
from delf.collection import Collection
from delf.errors import CollectionError, ImageError, MissingDependencyError
from delf.images import PassedOver


@pytest.fixture
def prefix(bucket: str, tmp_path: Path) -> str:
    """An address of this test's own."""
    return f"{bucket}/{tmp_path.name}"


@pytest.fixture
def uploaded(prefix: str, pictures: Path) -> str:
    """`pictures` in the object store, with a copy of one, one that is none, and what is passed over."""
    import s3fs

    files = s3fs.S3FileSystem()
    shutil.copy(pictures / "3.png", pictures / "8-copy.png")
    (pictures / "bad.jpg").write_bytes(b"no picture")
    for path in pictures.iterdir():
        files.put_file(str(path), f"{prefix}/photos/{path.name}")
    for name in ("photos/.hidden.png", "photos/thumbs/1.png", "photos/2019/0.png", "photos/clip.mov"):
        files.put_file(str(pictures / "0.png"), f"{prefix}/{name}")
    return f"{prefix}/photos"


def test_photos_are_found_in_the_order_of_their_names(uploaded: str) -> None:
    passed = PassedOver()
    photos = list(find_photos([uploaded], exclude=["5.*"], on_error=pytest.fail, passed_over=passed))
    names = [os.fsdecode(photo.path).removeprefix(f"{uploaded}/") for photo in photos]
    assert names == sorted(["2019/0.png", *(f"{number}.png" for number in range(10) if number != 5), "8-copy.png",
                            "bad.jpg"])
    assert passed.videos == 1
    assert all(photo.size > 0 and photo.mtime_ns > 10**18 for photo in photos)
    [one] = find_photos([f"{uploaded}/7.png"], on_error=pytest.fail)
    assert one == photos[names.index("7.png")]
    with pytest.raises(ImageError, match="There is nothing at s3://delf/nothing"):
        find_photos(["s3://delf/nothing"], on_error=pytest.fail)


def test_a_store_there_is_what_a_folder_gives(prefix: str, uploaded: str, pictures: Path, tmp_path: Path,
                                              stub: Any) -> None:
    store = Store.create(f"{prefix}/places.store", stub.identity)
    photos = list(find_photos([uploaded], on_error=pytest.fail))
    *counts, report = index_piece(Job(store.url, store.manifest, stub), Piece(tuple(photos)))
    assert counts[-1] == len(photos) == 13
    assert isinstance(report, PieceReport)
    assert report.entry is not None
    assert (report.read, report.copies) == (10, 2)
    [(source, why)] = report.skipped
    assert source == f"{uploaded}/bad.jpg"
    assert why.startswith(source)
    assert store.location.names("pieces") == [f"{report.id}.json"]
    store.publish(folded(store, Known.of([]), [report.entry])[0])
    with Store.open(f"{prefix}/places.store").as_collection(tmp_path / "part.delf") as part, \
            Collection.create(tmp_path / "made.delf", stub) as made:
        made.add([pictures])
        assert sorted(image.key for image in part) == sorted(image.key for image in made)
        assert {image.path for image in part} > {f"{uploaded}/4.png", f"{uploaded}/9.png"}
    assert remove(store, [f"{uploaded}/2019"]) == 1
    assert remove(store, [f"{uploaded}/4.png"]) == 1
    assert store.manifest.images == 9
    assert compact(store, grace=0).images == 1
    assert store.location.names("pieces") == []
    assert store.location.names("segments") == [store.manifest.segments[0].name]
    assert len(store.location.names(f"segments/{store.manifest.segments[0].name}")) == len(
        store.manifest.segments[0].files) + 1


def test_names_there_are_no_patterns_and_no_other_places(prefix: str, pictures: Path, tmp_path: Path,
                                                         stub: Any) -> None:
    """`::` and `*` mean something to fsspec, and nothing to us; what lies below two roots is found once."""
    import s3fs

    files, names = s3fs.S3FileSystem(), ["a::file:__b.png", "b*.png", "[c].png", "d?.png", "e#.png", "100%25.png"]
    for number, name in enumerate(names):
        files.put_file(str(pictures / f"{number}.png"), f"{prefix}/odd/{name}")
    photos = list(find_photos([f"{prefix}/odd/b*.png", f"{prefix}/odd", f"{prefix}/odd/"], on_error=pytest.fail))
    assert sorted(os.fsdecode(photo.path) for photo in photos) == sorted(f"{prefix}/odd/{name}" for name in names)
    store = Store.create(f"{prefix}/[1]*.store", stub.identity)
    *_, report = index_piece(Job(store.url, store.manifest, stub), Piece(tuple(photos)))
    assert isinstance(report, PieceReport) and report.entry is not None
    assert (report.read, report.skipped) == (len(names), ())
    store.publish(folded(store, Known.of([]), [report.entry])[0])
    store.location.write("segments/" + "f" * 32 + "/scores.npy", b"left by a job that was cut short")
    assert compact(store, grace=-10.0).deleted == 2
    assert (store.location.names("pieces"), store.location.names("segments")) == ([], [report.entry.name])
    with store.as_collection(tmp_path / "part.delf") as part:
        assert len(part) == len(names)


@pytest.mark.parametrize(("address", "told"), [
    ("s3://", "no bucket"), ("s3:///", "no bucket"), ("ftp://127.0.0.1:1/x", "does not answer"),
    ("no://x", "no storage")])
def test_addresses_that_lead_nowhere_are_told(address: str, told: str) -> None:
    with pytest.raises(CollectionError, match=told):
        Store.open(address)


def test_an_ordinary_collection_is_published_there(prefix: str, pictures: Path, tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "made.delf", stub) as made:
        made.add([pictures], images_per_segment=4)
        store = publish(made, f"{prefix}/published.store")
        with store.place([store.manifest.segments[1].name], tmp_path / "part.delf") as part:
            assert [image.key for image in part] == [image.key for image in made][4:8]
    began = time.time()
    assert began - 3600 < store.location.changed("segments") < began + 3600
    with pytest.raises(CollectionError, match="is there already"):
        Store.create(f"{prefix}/published.store", stub.identity)


def test_what_is_damaged_there_is_told(prefix: str, pictures: Path, tmp_path: Path, stub: Any) -> None:
    with Collection.create(tmp_path / "made.delf", stub) as made:
        made.add([pictures])
        store = publish(made, f"{prefix}/places.store")
    store.location.write(f"segments/{store.manifest.segments[0].name}/scores.npy", b"something else")
    with pytest.raises(CollectionError, match=r"scores.npy of the store s3://.* is not what was written"):
        store.as_collection(tmp_path / "part.delf")
    with pytest.raises(CollectionError, match="no store at s3://"):
        Store.open(f"{prefix}/nothing.store")
    with pytest.raises(CollectionError, match="check the address"):
        Store.create("s3://no-such-bucket/places.store", stub.identity)


@pytest.mark.parametrize(("package", "address", "cure"), [
    ("fsspec", "s3://bucket/a.store", r"'fsspec'.*delf-retrieval\[ray\]"),
    ("s3fs", "s3://bucket/a.store", r"'s3fs'.*delf-retrieval\[s3\]"),
    ("gcsfs", "gs://bucket/a.store", "pip install gcsfs")])
def test_without_the_package_an_address_says_what_to_install(package: str, address: str, cure: str,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    if package != "fsspec":
        loaded = pytest.importorskip("fsspec.registry", reason="needs fsspec: pip install 'delf-retrieval[ray]'")
        monkeypatch.delitem(loaded._registry, address.partition(":")[0], raising=False)
    with pytest.raises(MissingDependencyError, match=cure):
        Store.open(address)
