"""Benchmark folders: the ground truth of one, and where its photos are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delf.errors import EvaluationError, OptionError
from delf.evaluation import GroundTruth, read_ground_truth
from delf.images import IMAGE_EXTENSIONS, display_path, find_images


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A benchmark folder: its ground truth and where its photos are.

    images, queries: files, in the order of the ground truth. distractors: files of images that no query shows; their
    numbers go on after those of `images`.
    """

    name: str
    truth: GroundTruth
    images: Sequence[Path]
    queries: Sequence[Path]
    distractors: Sequence[Path] = ()

    @property
    def files(self) -> list[Path]:
        """All that is searched, by number."""
        return [*self.images, *self.distractors]


def read_benchmark(folder: str | Path, *, limit: int | None = None,
                   distractors: Sequence[str | Path] = ()) -> Benchmark:
    """Read the ground truth of a folder and find its images.

    Args:
        limit: only the first so many queries. distractors: as for `evaluate_folder`.

    Raises:
        EvaluationError: the folder is not a benchmark, or images are missing.
        ImageError: a folder of distractors is not there.
    """
    folder = Path(folder)
    truth = first_queries(read_ground_truth(truth_file(folder)), limit)
    names, queries = names_of(truth)
    return Benchmark(folder.resolve().name, truth, find_named(folder, names), find_named(folder, queries),
                     list(find_images(distractors)))


def truth_file(folder: Path) -> Path:
    """The ground truth of a benchmark folder.

    Raises:
        EvaluationError: there is none, or more than one.
    """
    found = [folder / "gnd.json"] if (folder / "gnd.json").is_file() else sorted(folder.glob("gnd*.pkl"))
    if len(found) != 1:
        raise EvaluationError(f"{display_path(folder)} is not a benchmark: it needs one ground truth, gnd.json or "
                              f"gnd_NAME.pkl, and has {len(found)}")
    return found[0]


def find_named(folder: Path, names: Sequence[str]) -> list[Path]:
    """The image files of a benchmark by their names, which lack the suffix as a rule.

    Raises:
        EvaluationError: one is not there.
    """
    for images in (folder / "images", folder / "jpg"):
        if images.is_dir():
            break
    else:
        raise EvaluationError(f"{display_path(folder)} is not a benchmark: it has no folder images/ (or jpg/)")
    paths = []
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise EvaluationError(f"the ground truth of {display_path(folder)} names {name!r}, which is outside of it")
        candidates = [images / name, *(images / f"{name}{suffix}" for suffix in sorted(IMAGE_EXTENSIONS))]
        path = next((path for path in candidates if _is_file(path)), None)
        if path is None:
            raise EvaluationError(f"{display_path(images)} lacks the image {name!r} that the ground truth names")
        paths.append(path)
    return paths


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long
        return False


def names_of(truth: GroundTruth) -> tuple[Sequence[str], Sequence[str]]:
    """Names of the database images and of the queries.

    Raises:
        EvaluationError: the ground truth does not name them.
    """
    if truth.images is None or truth.queries is None:
        raise EvaluationError(f"{truth.source} names no images: it needs imlist and qimlist")
    return truth.images, truth.queries


def first_queries(truth: GroundTruth, limit: int | None) -> GroundTruth:
    """The ground truth of the first `limit` queries, or of all.

    Raises:
        OptionError: the limit is below 1.
    """
    if limit is None:
        return truth
    if limit < 1:
        raise OptionError(f"the limit of the queries must be 1 or more, not {limit}")
    queries = None if truth.queries is None else truth.queries[:limit]
    return GroundTruth(truth.images, queries, truth.entries[:limit], truth.source)
