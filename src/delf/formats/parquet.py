"""Features as Apache Parquet: one row per feature, many images in one file, for tables and vector databases.

The columns: `image` (its name), `feature` (its row in the image), `x`, `y`, `scale`, `score`, `orientation` (where
there are some) and `descriptor`, a list of D float32. The metadata of the file, under the key `delf`, are JSON: the
names, sizes and numbers of features of all images in the order of the rows, and what they were made by. Global
descriptors are left out.

Parquet is parsed by Apache Arrow (the extra `parquet`). What is compressed, and so may be far larger than the file, is
refused: it is read by the tools that wrote it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import DelfError, missing_dependency
from delf.files import replacing
from delf.formats.assembly import assemble, writable
from delf.formats.container import Images, only_one, require_text
from delf.formats.files import MAX_BYTES, damaged, require_file
from delf.types import Features

_KEY = "delf"
_ROWS = 2**15  # of a group, at least: small ones make a large file slow to open
_MOST_DIMENSIONS = 2**16
_MOST_METADATA = 2**26


def write(path: Path, features: Features) -> None:
    """Write the features of one image, named as the file without its suffix.

    Raises:
        DelfError: the file cannot be written, or a value is not finite.
        MissingDependencyError: pyarrow is not installed.
    """
    write_images(path, [(path.stem, features)])


def read(path: Path) -> Features:
    """Read the features of the only image in a file.

    Raises:
        DelfError: the file is missing or damaged, or holds no image or several.
        MissingDependencyError: pyarrow is not installed.
    """
    with open_images(path) as images:
        return only_one(images, path)


def write_images(path: Path, images: Iterable[tuple[str, Features]], about: str = "") -> None:
    """Write the features of images under their names, a few images at a time.

    Args:
        about: what they were made by, as JSON.

    Raises:
        DelfError: the file cannot be written, a value is not finite, two names are the same or cannot be names, or
            descriptors have different lengths.
        MissingDependencyError: pyarrow is not installed.
    """
    arrow, parquet = _arrow()
    rest = iter(images)
    first = next(rest, None)
    dimensions = 0 if first is None else first[1].descriptors.shape[1]
    turned = first is not None and first[1].orientations is not None
    schema, listed, waiting = _schema(arrow, dimensions, turned), {}, _Batch(arrow)
    with replacing(path) as temporary, _told(path, arrow), parquet.ParquetWriter(
            temporary, schema, compression="none", use_dictionary=["image"]) as file:
        for name, features in chain([] if first is None else [first], rest):
            require_text(name, path)
            if name in listed:
                raise DelfError(f"{name!r} is there twice, so {str(path)!r} was not written: give every image its "
                                "own name.")
            features = writable(features, path)
            if features.descriptors.shape[1] != dimensions or (features.orientations is not None) != turned:
                raise DelfError(f"the features of {name!r} have other columns than those before, so {str(path)!r} was "
                                "not written: extract all images with the same model and options.")
            listed[name] = [*features.image_size, len(features)]
            waiting.add(name, features)
            if waiting.rows >= _ROWS:
                file.write_table(waiting.table(schema))
        if waiting.rows:
            file.write_table(waiting.table(schema))
        description = {"version": 1, "dimensions": dimensions, "images": listed, "about": about}
        file.add_key_value_metadata({_KEY: json.dumps(description)})


@contextlib.contextmanager
def open_images(path: Path) -> Iterator[Images]:
    """The images of a file, in the order of its rows, each read when it is asked for.

    Raises:
        DelfError: the file is missing or damaged, or was not written by `write_images`.
        MissingDependencyError: pyarrow is not installed.
    """
    arrow, parquet = _arrow()
    require_file(path)
    with contextlib.ExitStack() as stack:
        with _parsing(path, arrow):
            file = stack.enter_context(parquet.ParquetFile(
                path, thrift_string_size_limit=_MOST_METADATA, thrift_container_size_limit=2**20))
            contents = _Said.of(file, path.stat().st_size)
        yield Images(tuple(contents.images), _Reader(file, contents, path).read, contents.about)


@dataclass(frozen=True)
class _Said:
    """What the metadata say. images: (width, height, features) of each. starts: the first row of each group."""

    images: dict[str, tuple[int, int, int]]
    dimensions: int
    about: str
    starts: tuple[int, ...]

    @classmethod
    def of(cls, file: Any, size: int) -> _Said:
        """Read and check them against the rows and the bytes of the file, before any is read."""
        metadata = file.metadata
        text = (metadata.metadata or {}).get(_KEY.encode())
        if text is None:
            raise ValueError("it was not written by delf; for its own files see docs/formats.md")
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.get("version") != 1:
            raise ValueError("it has another version than 1; if a newer delf wrote it, upgrade")
        images, dimensions, about = fields.get("images"), fields.get("dimensions"), fields.get("about")
        if not (isinstance(images, dict) and type(dimensions) is int and 0 <= dimensions <= _MOST_DIMENSIONS
                and isinstance(about, str) and all(_is_entry(entry) for entry in images.values())):
            raise ValueError("its list of images makes no sense")
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        for group in groups:
            columns = [group.column(number) for number in range(group.num_columns)]
            if any(column.compression != "UNCOMPRESSED" for column in columns):
                raise ValueError("it is compressed; write it without compression")
            if not 0 <= group.num_rows * (4 * dimensions + 24) <= min(MAX_BYTES, 8 * size + 2**20):
                raise ValueError("a group of its rows is larger than the file")
        starts = tuple(accumulate((group.num_rows for group in groups), initial=0))
        if starts[-1] != sum(entry[2] for entry in images.values()):
            raise ValueError("it has not as many rows as its images have features")
        return cls({name: tuple(entry) for name, entry in images.items()}, dimensions, about, starts)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 3 and all(
        type(number) is int and 0 <= number < 2**31 for number in entry)


class _Reader:
    """Reads images; the last group of rows is kept, since the next image mostly lies in it."""

    def __init__(self, file: Any, contents: _Said, path: Path) -> None:
        self._file, self._said, self._path = file, contents, path
        counts = [features for _, _, features in contents.images.values()]
        self._first = dict(zip(contents.images, accumulate(counts, initial=0), strict=False))
        self._kept: tuple[int, dict[str, Any]] = (-1, {})

    def read(self, name: str) -> Features:
        """The features of one image."""
        width, height, count = self._said.images[name]
        start = self._first[name]
        with _parsing(self._path, _arrow()[0]):
            parts = []
            for group, (first, last) in enumerate(zip(self._said.starts, self._said.starts[1:], strict=False)):
                if start < last and first < start + count:
                    rows = slice(max(start - first, 0), start + count - first)
                    parts.append({key: column[rows] for key, column in self._group(group).items()})
            if not parts:
                parts = [self._empty()]
            columns = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
            return assemble(np.column_stack([columns["x"], columns["y"]]), columns["scale"], columns["score"],
                            columns["descriptor"], (width, height), orientations=columns.get("orientation"))

    def _empty(self) -> dict[str, Any]:
        columns = {key: np.zeros(0, np.float32) for key in ("x", "y", "scale", "score")}
        return {**columns, "descriptor": np.zeros((0, self._said.dimensions), np.float32)}

    def _group(self, number: int) -> dict[str, Any]:
        if self._kept[0] != number:
            rows = self._said.starts[number + 1] - self._said.starts[number]
            table = self._file.read_row_group(number)
            columns = {}
            for key in ("x", "y", "scale", "score", "orientation"):
                if key in table.column_names:
                    columns[key] = table.column(key).to_numpy()
                    if columns[key].dtype != np.float32 or columns[key].shape != (rows,):
                        raise ValueError(f"its column {key!r} has not a number for each feature")
            columns["descriptor"] = self._descriptors(table, rows)
            self._kept = number, columns
        return self._kept[1]

    def _descriptors(self, table: Any, rows: int) -> Any:
        if not self._said.dimensions:
            return np.zeros((rows, 0), np.float32)
        column = table.column("descriptor").combine_chunks()
        numbers = column.flatten().to_numpy(zero_copy_only=False)
        if column.null_count or numbers.dtype != np.float32 or numbers.size != rows * self._said.dimensions:
            raise ValueError("its descriptors have not all the same length")
        return numbers.reshape(rows, self._said.dimensions)


class _Batch:
    """Features of a few images, until they are written."""

    def __init__(self, arrow: Any) -> None:
        self._arrow = arrow
        self._images: list[tuple[str, Features]] = []
        self.rows = 0

    def add(self, name: str, features: Features) -> None:
        self._images.append((name, features))
        self.rows += len(features)

    def table(self, schema: Any) -> Any:
        """All of them as a table; the batch is empty then."""
        arrow, images = self._arrow, self._images
        self._images, self.rows = [], 0
        names = list(chain.from_iterable([name] * len(features) for name, features in images))
        columns = {"image": arrow.array(names, arrow.string()),
                   "feature": arrow.array(np.concatenate([np.arange(len(one), dtype=np.int32) for _, one in images]))}
        points = np.concatenate([one.keypoints for _, one in images])
        columns |= {"x": np.ascontiguousarray(points[:, 0]), "y": np.ascontiguousarray(points[:, 1])}
        for key, field in (("scale", "scales"), ("score", "scores"), ("orientation", "orientations")):
            if key in schema.names:
                columns[key] = np.concatenate([getattr(one, field) for _, one in images])
        if "descriptor" in schema.names:
            numbers = np.concatenate([one.descriptors for _, one in images])
            columns["descriptor"] = arrow.FixedSizeListArray.from_arrays(
                arrow.array(numbers.reshape(-1)), numbers.shape[1])
        return arrow.table(columns, schema=schema)


def _schema(arrow: Any, dimensions: int, turned: bool) -> Any:
    number = arrow.float32()
    fields = [("image", arrow.string()), ("feature", arrow.int32()),
              *((key, number) for key in ("x", "y", "scale", "score", *(["orientation"] if turned else [])))]
    if dimensions:
        fields.append(("descriptor", arrow.list_(number, dimensions)))
    return arrow.schema(fields)


def require() -> None:
    """Raise a `MissingDependencyError` where pyarrow is not installed."""
    _arrow()


def _arrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise missing_dependency("pyarrow", "parquet", "a .parquet file") from error


@contextlib.contextmanager
def _told(path: Path, arrow: Any) -> Iterator[None]:
    try:
        yield
    except arrow.ArrowException as error:
        raise DelfError(f"{str(path)!r} could not be written ({str(error)[:200]}): check the disk.") from error


@contextlib.contextmanager
def _parsing(path: Path, arrow: Any) -> Iterator[None]:
    """Turn what Arrow, JSON and numpy say of damaged files into a `DelfError`."""
    try:
        yield
    except DelfError:
        raise
    except (arrow.ArrowException, OSError, ValueError, KeyError, RecursionError, OverflowError, MemoryError) as error:
        raise damaged(path, error) from error
