"""Small real photographs with known answers, the packaged model, a collection of them, and a stand-in for the model."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from remembering import FOLDER, asking, folder_of_this_run, remembering

from delf.types import Features, ImageArray

SIDE = 320  # pixels of the longest side: large enough to match by, small enough to be quick

# Database photos: the sample, and where its corners go as fractions of the sides (None: as it is).
LEFT = ((0.04, 0.10), (0.92, 0.00), (0.98, 1.00), (0.06, 0.88))
RIGHT = ((0.00, 0.03), (0.93, 0.12), (0.90, 0.90), (0.05, 1.00))
TURNED = ((0.10, 0.00), (1.00, 0.09), (0.91, 1.00), (0.00, 0.92))
PHOTOS = {
    "astronaut": ("astronaut", None), "astronaut-side": ("astronaut", LEFT), "camera": ("camera", None),
    "cat": ("cat", None), "cell": ("cell", None), "coffee": ("coffee", None), "coffee-side": ("coffee", RIGHT),
    "coins": ("coins", None), "gravel": ("gravel", None), "retina": ("retina", None), "rocket": ("rocket", None),
    "rocket-side": ("rocket", LEFT),
}
QUERIES = {"astronaut": RIGHT, "camera": TURNED, "coffee": TURNED, "coins": LEFT, "rocket": RIGHT}


@dataclass(frozen=True, eq=False)
class Query:
    """A photo of something in `photos`, seen from elsewhere.

    path: the file. photo: the database photo that it was made from. transforms: by the path of each photo that shows
    the same, (3, 3) from the pixels of the query to those of the photo.
    """

    path: Path
    photo: Path
    transforms: dict[str, np.ndarray]

    def mapped(self, points: np.ndarray, photo: str | Path | None = None) -> np.ndarray:
        """(N, 2) points of the query -> the same points of a photo."""
        return mapped(self.transforms[str(photo or self.photo)], points)


def mapped(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N, 2) points through a 3x3 transform."""
    moved = np.column_stack([points, np.ones(len(points))]) @ np.asarray(transform).T
    return moved[:, :2] / moved[:, 2:]


def _sample(name: str) -> ImageArray:
    from delf.demo.samples import read_sample

    pixels = read_sample(name)
    factor = SIDE / max(pixels.shape[:2])
    size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _seen_from(pixels: ImageArray, corners: Any) -> tuple[ImageArray, np.ndarray]:
    """The picture with its corners moved, and the transform from the picture to the new one."""
    if corners is None:
        return pixels, np.eye(3)
    height, width = pixels.shape[:2]
    scale = np.array([width - 1, height - 1], np.float32)
    start = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float32) * scale
    transform = cv2.getPerspectiveTransform(start, np.array(corners, np.float32) * scale)
    # No camera leaves a black frame, and two pictures with the same frame have just that in common.
    seen = cv2.warpPerspective(pixels, transform, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(seen, np.uint8), transform


@pytest.fixture(scope="session", autouse=True)
def one_runtime() -> Iterator[None]:
    """Tests do without bfloat16, which `auto` takes where there is some: with it features and ranks differ by a
    rounding from those in 8 bits or float32. That choice, and bfloat16 itself, are looked at in `tests/runtimes`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("delf.runtimes._may_compute_in_bfloat16", lambda: False)
        yield


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder of what the network has said, for all processes and for as long as the tests run."""
    if not hasattr(config, "workerinput"):
        os.environ[FOLDER] = str(folder_of_this_run())
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(FOLDER), ignore_errors=True))


@pytest.fixture(scope="session", autouse=True)
def remembering_network() -> Iterator[None]:
    """What ONNX Runtime has said of the same pixels is not computed again: most of the time that tests would take."""
    with remembering():
        yield


@pytest.fixture
def without_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where neither RAW files of cameras nor videos can be read."""
    for module in ("cli.console", "images", "images.paths", "images.video"):
        monkeypatch.setattr(f"delf.{module}.has_extra", lambda extra: False, raising=False)


@pytest.fixture
def network_is_asked() -> Iterator[None]:
    """For tests that look at the network itself, or at how it is computed: nothing is remembered."""
    with asking():
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve photos of nine things, three of them from two sides. Read only."""
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("photos")
    for name, (sample, corners) in PHOTOS.items():
        pixels, _ = _seen_from(_sample(sample), corners)
        Image.fromarray(pixels).save(folder / f"{name}.jpg", quality=92)
    return folder


@pytest.fixture(scope="session")
def half_size(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos at half their size, for what takes long of a large one: a quarter of the work. Read only."""
    folder = tmp_path_factory.mktemp("half")
    for path in photos.iterdir():
        with Image.open(path) as image:
            image.reduce(2).save(folder / path.name, quality=92)
    return folder


@pytest.fixture(scope="session")
def queries(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Query]:
    """Queries by the name of the photo that they were made from: another view, darker, in another file format."""
    folder = tmp_path_factory.mktemp("queries")
    made = {}
    for name, corners in QUERIES.items():
        original = _sample(name)
        pixels, moved = _seen_from(original, corners)
        path = folder / f"query-{name}.png"
        Image.fromarray((pixels * 0.85).astype(np.uint8)).save(path)
        transforms = {str(photos / f"{photo}.jpg"): _seen_from(original, place)[1] @ np.linalg.inv(moved)
                      for photo, (sample, place) in PHOTOS.items() if sample == name}
        made[name] = Query(path, photos / f"{name}.jpg", transforms)
    return made


@pytest.fixture(scope="session")
def unknown_query(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of something that is not in `photos`."""
    pytest.importorskip("skimage")
    path = tmp_path_factory.mktemp("unknown") / "writing.png"
    Image.fromarray(_sample("writing")).save(path)
    return path


@pytest.fixture(scope="session")
def extractor() -> Any:
    """The packaged model on two threads."""
    from delf.features import Delf

    return Delf.load(threads=2)


@pytest.fixture(scope="session")
def collection(photos: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`photos`, indexed with the packaged model. Read only."""
    from delf.collection import Collection
    from delf.indexing import build_index

    with Collection.create(tmp_path_factory.mktemp("collection") / "places.delf", extractor) as made:
        made.add([photos])
        build_index(made)
        yield made


@pytest.fixture(scope="session")
def matched(collection: Any, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `collection`, matched with itself as `delf.archive` does: to be copied, and not to be changed."""
    from delf.archive import BuildOptions
    from delf.collection import Collection
    from delf.grouping import match_collection

    copy = Path(shutil.copytree(collection.folder, tmp_path_factory.mktemp("matched") / "copy.delf"))
    with Collection.open(copy) as opened:
        match_collection(opened, extractor, BuildOptions().pairs)
    return copy


@pytest.fixture(scope="session")
def query_features(queries: dict[str, Query], unknown_query: Path, extractor: Any) -> dict[str, Features]:
    """The features of each query, and under "unknown" those of the photo that is not in `photos`."""
    from delf.images import read_image

    paths = {**{name: query.path for name, query in queries.items()}, "unknown": unknown_query}
    return {name: extractor.extract(read_image(path)) for name, path in paths.items()}


@dataclass
class StubExtractor:
    """Stands in for `Delf` where the network is not the point: features of a few patches, in microseconds.

    interrupt_after: images after which Ctrl-C is pressed.
    """

    name: str = "stub"
    fingerprint: str = "00112233445566778899"
    space: str | None = None
    options: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(dimensions=16, max_features=20))
    threads: int = 1
    longest_side: int | None = None
    global_dimensions: int = 8
    interrupt_after: int | None = None
    extracted: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        shared = {} if self.space is None else {"space": self.space}
        return {"model": {"name": self.name, "fingerprint": self.fingerprint, **shared}, "options": vars(self.options)}

    def extract_many(self, images: Iterable[tuple[ImageArray, tuple[int, int]]]) -> Iterator[Features]:
        for pixels, size in images:
            if self.extracted == self.interrupt_after:
                raise KeyboardInterrupt
            self.extracted += 1
            yield self.extract(pixels, image_size=size)

    def extract(self, image: ImageArray, *, image_size: tuple[int, int] | None = None) -> Features:
        """The contrast of the cells of a 4x5 grid, in a 16-D space; cells without any are no features."""
        height, width = image.shape[:2]
        cells = np.asarray(cv2.resize(image, (20, 16), interpolation=cv2.INTER_AREA), np.float32).mean(axis=2)
        patches = cells.reshape(4, 4, 5, 4).transpose(0, 2, 1, 3).reshape(20, 16)
        patches -= patches.mean(axis=1, keepdims=True)
        scores = np.linalg.norm(patches, axis=1)
        kept = np.argsort(-scores, kind="stable")[: int((scores > 1.0).sum())]
        size = image_size or (width, height)
        rows, columns = np.divmod(np.arange(20), 5)
        centres = np.column_stack([(columns + 0.5) * size[0] / 5, (rows + 0.5) * size[1] / 4]) - 0.5
        descriptors = patches[kept] / np.maximum(scores[kept, None], 1e-6)
        return Features(centres[kept].astype(np.float32), np.full(len(kept), 1.25, np.float32),
                        scores[kept].astype(np.float32), descriptors.astype(np.float32), size,
                        np.eye(1, 8, dtype=np.float32)[0])


@pytest.fixture
def stub() -> StubExtractor:
    return StubExtractor()


@pytest.fixture(scope="session")
def make_stub() -> Callable[..., StubExtractor]:
    return StubExtractor


@pytest.fixture
def draw(tmp_path: Path) -> Callable[..., Path]:
    """Writes a small picture, different for each seed, and returns its path."""

    def write(name: str | bytes, seed: int, size: tuple[int, int] = (64, 48), **options: Any) -> Path:
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        blocks = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
        pixels = np.asarray(cv2.resize(blocks, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        with path.open("wb") as file:
            Image.fromarray(pixels).save(file, "PNG", **options)
        return path

    return write


class Disk:
    """What has been brought to the disk: the size and time of files, and the names in folders, when they were last
    flushed.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], Any] = {}

    def flushed(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._kept[status.st_dev, status.st_ino] = (
            set(os.listdir(descriptor)) if stat.S_ISDIR(status.st_mode) else (status.st_size, status.st_mtime_ns))

    def holds(self, path: Path) -> bool:
        """Whether a file is there under its name, as it is now, after a power cut at this moment."""
        file = path.stat()
        return self._kept.get((file.st_dev, file.st_ino)) == (file.st_size, file.st_mtime_ns) and self.names(path)

    def names(self, path: Path) -> bool:
        """Whether a file or a folder has its name after a power cut at this moment."""
        folder = path.parent.stat()
        return path.name in self._kept.get((folder.st_dev, folder.st_ino), ())


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Notes what is flushed."""
    disk, fsync = Disk(), os.fsync

    def noted(descriptor: Any) -> None:
        number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        disk.flushed(number)
        fsync(number)

    monkeypatch.setattr(os, "fsync", noted)
    return disk


@pytest.fixture(scope="session")
def plain_python() -> Path:
    """The Python of an installation without any extra: `DELF_PLAIN`, which `make test` sets."""
    if "DELF_PLAIN" not in os.environ:
        pytest.skip("needs DELF_PLAIN, a virtual environment with a plain install (make test makes one)")
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    return Path(os.environ["DELF_PLAIN"]) / scripts / "python"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a browser come last: Playwright leaves an event loop running, where no other can run."""
    items.sort(key=lambda item: item.path.parent.name == "page")


@pytest.fixture(scope="session")
def pairs_of() -> Callable[..., Any]:
    """(first, second, probability[, inliers, share, area, displacement]) of each pair."""
    from delf.grouping import Pairs

    def make(*rows: tuple[float, ...], images: int = 40) -> Any:
        full = sorted((*row, *(30, 0.1, 0.2, 1.0)[len(row) - 3 :]) for row in rows)
        first, second, probability, inliers, share, area, displacement = np.array(full, float).reshape(-1, 7).T
        singles = (values.astype(np.float32) for values in (probability, share, area, displacement))
        first, second, inliers = (values.astype(np.int64) for values in (first, second, inliers))
        return Pairs(first, second, inliers, *singles, images, images)

    return make


@pytest.fixture
def worded(make_stub: Any, tmp_path: Path) -> Any:
    """A stand-in for a model that brings words."""
    from delf.index import Codebook, CodebookOptions

    extractor = make_stub()
    sample = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    sample /= np.linalg.norm(sample, axis=1, keepdims=True)
    extractor.words = tmp_path / "model/stub.words"
    extractor.words.parent.mkdir()
    Codebook.train(sample, CodebookOptions(40, iterations=3), model=extractor.fingerprint).save(extractor.words)
    return extractor
