"""One suite over every key of CONTAINERS, and what gathers images into such a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from full_disk import files_of_at_most

from delf.errors import DelfError
from delf.formats import CONTAINERS, Container, container, open_images, write_images
from delf.formats.gathering import Gathering
from delf.formats.parts import Parts

from .conftest import assert_same, make_features, skip_without

IMAGES = {name: make_features(count, seed=count) for count, name in enumerate(["a.jpg", "a/b c.jpg", "u/ü-e.jpg", "z"])}


@pytest.fixture(params=CONTAINERS)
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"many{skip_without(request.param)}"


def test_what_is_written_is_read_an_image_at_a_time(path: Path) -> None:
    write_images(path, iter(IMAGES.items()), '{"model": 1}')
    with open_images(path) as images:
        assert list(images) == list(IMAGES)
        assert images.about == '{"model": 1}'
        for name in reversed(IMAGES):
            assert_same(images[name], IMAGES[name])
            assert images[name].image_size == (640, 480)
        assert "nothing" not in images
        with pytest.raises(KeyError):
            _ = images["nothing"]


def test_same_images_same_bytes(path: Path) -> None:
    written = []
    for _ in range(2):
        write_images(path, IMAGES.items(), "about")
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_no_images(path: Path) -> None:
    write_images(path, [])
    with open_images(path) as images:
        assert (len(images), images.about) == (0, "")


@pytest.mark.parametrize("name", ["", "/", ".", "a//b", "/etc/a", "./a", "a/../b", "a\0b", "a\udce9", "x" * 5000])
def test_names_that_cannot_be(path: Path, name: str) -> None:
    with pytest.raises(DelfError, match=r"cannot name an image|is not text"):
        write_images(path, [("good.jpg", IMAGES["z"]), (name, IMAGES["z"])])
    assert not list(path.parent.iterdir())


def test_a_name_that_is_there_twice(path: Path) -> None:
    with pytest.raises(DelfError, match="'z' is there twice"):
        write_images(path, [("z", IMAGES["z"]), ("z", IMAGES["z"])])
    assert not list(path.parent.iterdir())


def test_another_suffix_names_the_known_ones(path: Path) -> None:
    with pytest.raises(DelfError, match=r"\.h5, \.parquet"):
        write_images(path.with_suffix(".npz"), [])
    with pytest.raises(DelfError, match=r"\.h5, \.parquet, \.db"), open_images(path.with_suffix(".npz")):
        pass


def test_many_images_in_groups_of_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image whose rows lie in two groups, as another writer may have them, is read all the same."""
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("delf.formats.parquet._ROWS", 15)
    path = tmp_path / "f.parquet"
    images = {f"{number}.jpg": make_features(number, seed=number) for number in range(9)}
    write_images(path, images.items())
    assert parquet.ParquetFile(path).metadata.num_row_groups == 2
    table, metadata = parquet.read_table(path), parquet.ParquetFile(path).metadata.metadata
    parquet.write_table(table.replace_schema_metadata(metadata), path, compression="none", row_group_size=4)
    with open_images(path) as again:
        for name in images:
            assert_same(again[name], images[name])


def test_the_table_that_other_programs_see(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_images(tmp_path / "f.parquet", IMAGES.items())
    table = parquet.read_table(tmp_path / "f.parquet")
    assert table.column_names == ["image", "feature", "x", "y", "scale", "score", "descriptor"]
    assert table.column("image").to_pylist() == ["a/b c.jpg", "u/ü-e.jpg", "u/ü-e.jpg", "z", "z", "z"]
    assert table.column("feature").to_pylist() == [0, 0, 1, 0, 1, 2]
    assert str(table.schema.field("descriptor").type) == "fixed_size_list<element: float>[8]"
    assert np.array_equal(table.column("descriptor").to_pylist()[5], IMAGES["z"].descriptors[2])


@pytest.mark.parametrize(("change", "reason"), [
    (lambda said: said.update(dimensions=7), "same length"), (lambda said: said.update(dimensions=2**40), "no sense"),
    (lambda said: said.update(version=2), "another version"), (lambda said: said.update(images=[]), "no sense"),
    (lambda said: said["images"].update(z=[1, 1, 4]), "as many rows"),
    (lambda said: said["images"].update(z=[1, 1, -3]), "no sense"),
])
def test_metadata_that_do_not_fit(tmp_path: Path, change: Any, reason: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "f.parquet"
    write_images(path, IMAGES.items())
    said = json.loads(parquet.ParquetFile(path).metadata.metadata[b"delf"])
    change(said)
    table = parquet.read_table(path).replace_schema_metadata({"delf": json.dumps(said)})
    parquet.write_table(table, path, compression="none")
    with pytest.raises(DelfError, match=rf"f\.parquet.*{reason}"), open_images(path) as images:
        list(images.values())


def test_tables_of_others_and_compressed_ones(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "f.parquet"
    write_images(path, IMAGES.items())
    table, metadata = parquet.read_table(path), parquet.ParquetFile(path).metadata.metadata
    parquet.write_table(table.replace_schema_metadata(metadata), path, compression="zstd")
    with pytest.raises(DelfError, match="compressed"), open_images(path):
        pass
    parquet.write_table(table.replace_schema_metadata({}), path)
    with pytest.raises(DelfError, match="not written by delf"), open_images(path):
        pass


def test_images_of_other_columns_do_not_mix(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    turned = replace(IMAGES["z"], orientations=np.ones(3, np.float32))
    for other in (make_features(3, 5), turned):
        with pytest.raises(DelfError, match="other columns"):
            write_images(tmp_path / "f.parquet", [("a", IMAGES["z"]), ("b", other)])


# --- gathering


def test_gathering_goes_on_where_it_was_interrupted(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Gathering(path, "about") as gathering:
        gathering.add("a.jpg", IMAGES["a.jpg"])
        gathering.add("z", IMAGES["z"])
        raise KeyboardInterrupt
    assert not path.exists()
    with Gathering(path, "about") as gathering:
        assert [name for name in IMAGES if gathering.has(name)] == ["a.jpg", "z"]
        assert not gathering.has("z", newer_than=2**62)
        gathering.add("u/ü-e.jpg", IMAGES["u/ü-e.jpg"])
        assert gathering.finish() == 3
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    with Gathering(path, "about") as gathering:
        assert gathering.has("z") and not gathering.has("z", newer_than=2**62)
        gathering.add("z", make_features(7))
        assert gathering.finish() == 3
    with open_images(path) as images:
        assert [len(one) for one in images.values()] == [0, 2, 7]


def test_gathering_leaves_nothing_where_nothing_was_added(path: Path) -> None:
    with pytest.raises(RuntimeError), Gathering(path, "about"):
        raise RuntimeError
    assert not list(path.parent.iterdir())


def test_what_was_made_otherwise_is_refused(path: Path) -> None:
    write_images(path, IMAGES.items(), "of another model")
    before = path.read_bytes()
    with pytest.raises(DelfError, match="another model, with other options or by another program"):
        Gathering(path, "of this one")
    assert path.read_bytes() == before


def test_parts_that_were_made_otherwise_are_thrown_away(tmp_path: Path) -> None:
    Parts(tmp_path / "f.h5", "one", ".txt").path("a").write_text("done")
    assert Parts(tmp_path / "f.h5", "one", ".txt").has("a")
    assert not Parts(tmp_path / "f.h5", "other", ".txt").has("a")
    assert not Parts(tmp_path / "f.h5", "one", ".txt").has("a")
    (tmp_path / "file").touch()
    with pytest.raises(DelfError, match="cannot be made"):
        Parts(tmp_path / "file" / "f.h5", "one", ".txt")


def test_a_link_in_the_place_of_parts_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / ".f.h5.parts").symlink_to(tmp_path / "precious")
    with pytest.raises(DelfError, match=r"\.f\.h5\.parts"):
        Parts(tmp_path / "f.h5", "one", ".txt")
    assert (tmp_path / "precious" / "file").is_file()


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "", "a\0b", "x/" * 3000])
def test_no_path_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DelfError, match="leads out of the folder"):
        container.inside(tmp_path, name)
    assert container.inside(tmp_path, "a/./b.jpg") == tmp_path / "a" / "b.jpg"


def test_a_container_says_what_it_needs() -> None:
    assert all(isinstance(one, Container) for one in CONTAINERS.values())


def test_two_processes_do_not_make_one_file_at_once(tmp_path: Path) -> None:
    with Parts(tmp_path / "f.h5", "one", ".txt") as parts:
        parts.path("a").write_text("done")
        for about in ("one", "another"):  # what the other one makes otherwise is not thrown away either
            with pytest.raises(DelfError, match="another process is working on"):
                Parts(tmp_path / "f.h5", about, ".txt")
        assert parts.has("a")
    with Parts(tmp_path / "f.h5", "one", ".txt") as parts:
        assert parts.has("a")


def test_parts_that_the_file_holds_already_go(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be killed between writing the file and deleting its parts."""
    name = next(iter(IMAGES))
    with monkeypatch.context() as patch, Gathering(path, "made") as gathering:
        patch.setattr(Parts, "remove", lambda self: None)
        gathering.add(name, IMAGES[name])
        gathering.finish()
    assert (tmp_path / f".{path.name}.parts").is_dir()
    with Gathering(path, "made") as gathering:
        assert gathering.has(name)
        gathering.finish()
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("size", [100, 3000, 8000, 20_000])
def test_a_full_disk_is_a_sentence_and_the_old_file_stays(path: Path, size: int) -> None:
    """Of libraries that write by themselves, some raise errors of their own then, and HDF5 would end the process."""
    write_images(path, [("z", make_features(3, seed=1))], "of old")
    before = path.read_bytes()
    with files_of_at_most(size), pytest.raises(DelfError, match="could not be written"):
        write_images(path, ((f"{number}.jpg", make_features(200, seed=number)) for number in range(9)), "new")
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]
