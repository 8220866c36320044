"""Measure retrieval on a benchmark folder: index its images, search with its queries, score the rankings."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from delf.collection import Collection
from delf.errors import EvaluationError, OptionError
from delf.evaluation import GroundTruth, Scores, read_ground_truth, score_ranks, write_ranking
from delf.features import Delf
from delf.images import IMAGE_EXTENSIONS, display_path
from delf.indexing import IndexOptions, build_index
from delf.ranking import Candidates
from delf.search import SearchEngine
from delf.types import SearchResult

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_folder` measured.

    scores: in percent. seconds: "extract" of all images, "query" (median) and "query_p95" of one search, and the
    mean of each stage of a search. learnt: the kind of index whose quantisers were learnt from the searched images
    themselves, else empty. skipped: a sentence for each image that could not be read.
    """

    dataset: str
    method: str
    model: str
    images: int
    queries: int
    scores: Scores
    seconds: dict[str, float]
    bytes_per_image: int
    learnt: str
    skipped: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The object that `delf evaluate --json` prints."""
        values = asdict(self)
        scores = values.pop("scores")
        return {**values, "skipped": list(self.skipped), "map": scores["map"], "mp": scores["mp"]}


def evaluate_folder(folder: str | Path, extractor: Delf, *, method: str = "delf", collection: str | Path | None = None,
                    limit: int | None = None, save_predictions: str | Path | None = None,
                    index: IndexOptions | None = None,
                    extracting: Progress = lambda done, total: None,
                    searching: Progress = lambda done, total: None) -> Evaluation:
    """Evaluate a search method on a folder with `images/` (or `jpg/`) and `gnd.json` (or `gnd_*.pkl`).

    Each query is cropped by its box before anything else. Images that got no vote are not in the ranking, which the
    protocol counts as not found.

    Args:
        collection: keep the collection in this folder and use it again; by default it is thrown away.
        limit: only the first so many queries.
        save_predictions: where the rankings go, in the form that `delf score` reads.
        index: which index to build.
        extracting, searching: called with (done, total).

    Raises:
        EvaluationError: the folder is not a benchmark, or images are missing.
    """
    predictions = {} if save_predictions is None else {method: save_predictions}
    return evaluate_methods(folder, extractor, [method], collection=collection, limit=limit,
                            save_predictions=predictions, index=index, extracting=extracting,
                            searching=searching)[method]


def evaluate_methods(folder: str | Path, extractor: Delf, methods: Sequence[str], *,
                     collection: str | Path | None = None, limit: int | None = None,
                     save_predictions: Mapping[str, str | Path] | None = None,
                     index: IndexOptions | None = None, extracting: Progress = lambda done, total: None,
                     searching: Progress = lambda done, total: None) -> dict[str, Evaluation]:
    """As `evaluate_folder`, for several search methods; the features of an image are extracted once for all of them.

    Args:
        save_predictions: where the rankings of a method go.
    """
    folder = Path(folder)
    truth = first_queries(read_ground_truth(truth_file(folder)), limit)
    names, queries = names_of(truth)
    paths, query_paths = find_named(folder, names), find_named(folder, queries)
    with nullcontext(str(collection)) if collection else tempfile.TemporaryDirectory() as place:
        target = Path(place) if collection else Path(place) / "benchmark.delf"
        with Collection.open_or_create(target, extractor) as opened:
            start = time.perf_counter()
            report = opened.add(paths, progress=extracting)
            if report.interrupted:
                raise KeyboardInterrupt
            extract_seconds = time.perf_counter() - start
            kind = build_index(opened, index)
            engines = [SearchEngine(opened, extractor, method=method) for method in methods]
            answers = _search_all(engines, query_paths, truth, searching)
            positions = _positions(opened, paths)
            size = sum(opened.bytes_by_kind().values())
    evaluations = {}
    for method, answered in answers.items():
        ranks = [[number for result in answer.results for number in positions.get(result.image, ())]
                 for answer in answered]
        if save_predictions is not None and method in save_predictions:
            write_ranking(save_predictions[method], ranks,
                          {"dataset": folder.resolve().name, "method": method, **extractor.identity})
        evaluations[method] = Evaluation(
            dataset=folder.resolve().name, method=method, model=extractor.runtime.config.name, images=len(paths),
            queries=len(answered), scores=score_ranks(ranks, truth), bytes_per_image=round(size / max(1, len(paths))),
            seconds={"extract": extract_seconds, **_latency(answered)}, skipped=report.skipped,
            learnt=kind if kind != "exact" else "")
    return evaluations


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


def _search_all(engines: Sequence[SearchEngine], queries: Sequence[Path], truth: GroundTruth,
                progress: Progress) -> dict[str, list[SearchResult]]:
    answers: dict[str, list[SearchResult]] = {engine.method: [] for engine in engines}
    for done, (path, entry) in enumerate(zip(queries, truth.entries, strict=True), start=1):
        seconds: dict[str, float] = {}
        query = engines[0].extract(path, box=entry.box, seconds=seconds)
        found: dict[Any, tuple[Candidates, dict[str, float]]] = {}  # what methods of the same retrieval share
        for engine in engines:
            if engine.options.retrieval not in found:
                spent = dict(seconds)
                found[engine.options.retrieval] = engine.retrieve(query, seconds=spent), spent
            candidates, spent = found[engine.options.retrieval]
            answers[engine.method].append(
                engine.search_features(query, name=str(path), top=None, candidates=candidates, seconds=spent))
        progress(done, len(queries))
    return answers


def _positions(collection: Collection, paths: Sequence[Path]) -> dict[str, list[int]]:
    """The numbers of the benchmark's images by the path that a result has; exact copies share one result."""
    positions: dict[str, list[int]] = {}
    for number, path in enumerate(paths):
        ordinal = collection.ordinal_of(path)
        if ordinal is not None:
            positions.setdefault(collection.image(ordinal).path, []).append(number)
    return positions


def _latency(answers: Sequence[SearchResult]) -> dict[str, float]:
    totals = np.array([sum(answer.seconds.values()) for answer in answers])
    stages = {f"query_{stage}": float(np.mean([answer.seconds[stage] for answer in answers]))
              for stage in answers[0].seconds}
    return {"query": float(np.median(totals)), "query_p95": float(np.percentile(totals, 95)), **stages}
