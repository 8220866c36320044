"""Measure retrieval on a benchmark folder: index its images, search with its queries, score the rankings."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from delf.collection import Collection
from delf.datasets.folders import Benchmark, read_benchmark
from delf.evaluation import Scores, protocol_of, score_ranks, write_ranking
from delf.extractors import Extractor, Own, as_extractor
from delf.indexing import IndexOptions, build_index
from delf.methods import DEFAULT_METHOD, SearchOptions, method_options
from delf.query import Query
from delf.ranking import Candidates
from delf.retrieval import reads_index
from delf.search import SearchEngine
from delf.settings import Settings
from delf.types import IntArray, SearchResult, require_top

Progress = Callable[[int, int], None]
VERIFICATION_READS = ("keypoints", "scales", "scores", "descriptors")  # of a collection


def ignored(done: int, total: int) -> None:
    """The progress that nobody looks at."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_folder` measured.

    scores: in percent. seconds: "extract" of all images, "index" for the index, and the words and lists that a method
    needs, where they were not there; "query" (median) and "query_p95" of one search, and the mean of each stage of a
    search. bytes_per_image: on disk, of what the method reads. learnt: what was learnt from the
    searched images themselves, "words" or the kind of index whose quantisers were; else empty. skipped: a sentence for
    each image that could not be read. extracted: images whose extraction "extract" is the time of; a kept collection
    has the others. peak_bytes: the most memory that the process held, with all methods that were measured together;
    None where the system does not say. query_model: that of the queries, where it is another one. settings: options of
    the method that were other than its own, by dotted names.
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
    extracted: int = 0
    peak_bytes: int | None = None
    query_model: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object that `delf evaluate --json` prints."""
        values = asdict(self)
        scores = values.pop("scores")
        return {**values, "skipped": list(self.skipped), "map": scores["map"], "mp": scores["mp"]}


def evaluate_folder(folder: str | Path, extractor: Own, *, method: str = DEFAULT_METHOD,
                    collection: str | Path | None = None,
                    limit: int | None = None, distractors: Sequence[str | Path] = (),
                    save_predictions: str | Path | None = None, index: IndexOptions | None = None,
                    settings: Settings | None = None, query_extractor: Own | None = None,
                    extracting: Progress = ignored, searching: Progress = ignored) -> Evaluation:
    """Evaluate a search method on a folder with `images/` (or `jpg/`) and `gnd.json` (or `gnd_*.pkl`).

    Each query is cropped to its box first. Images without a vote are not in the ranking, and the protocol counts them
    as not found. The ground truth decides on the protocol: revisited, or classic if it has `ok`.

    Args:
        collection: keep the collection in this folder and use it again; by default it is deleted.
        limit: use only this many queries, the first ones.
        distractors: folders of images that no query shows, which are searched as well.
        save_predictions: the file to which the rankings are written, in the form that `delf score` reads.
        index: which index to build. settings: options that replace those of the method
            (`delf.methods.method_options`).
        query_extractor: extracts the features of the queries, as for `SearchEngine`; by default that of the images.
        extracting, searching: called with (done, total).

    Raises:
        EvaluationError: the folder is not a benchmark, or images are missing.
    """
    predictions = {} if save_predictions is None else {method: save_predictions}
    return evaluate_methods(folder, extractor, [method], collection=collection, limit=limit, distractors=distractors,
                            save_predictions=predictions, index=index, settings=settings,
                            query_extractor=query_extractor, extracting=extracting, searching=searching)[method]


def evaluate_methods(folder: str | Path, extractor: Own, methods: Sequence[str], *,
                     collection: str | Path | None = None, limit: int | None = None,
                     distractors: Sequence[str | Path] = (),
                     save_predictions: Mapping[str, str | Path] | None = None,
                     index: IndexOptions | None = None, settings: Settings | None = None,
                     query_extractor: Own | None = None, extracting: Progress = ignored, searching: Progress = ignored,
                     observe: Callable[[Observed], None] = lambda observed: None) -> dict[str, Evaluation]:
    """As `evaluate_folder`, for several search methods; the features of an image are extracted once for all of them.

    Args:
        save_predictions: where the rankings of a method go. observe: called with the answers of each method.
    """
    benchmark, whole = read_benchmark(folder, limit=limit, distractors=distractors), as_extractor(extractor)
    asking = whole if query_extractor is None else as_extractor(query_extractor)
    options = {method: method_options(method, settings) for method in methods}
    _forget_peak()
    votes = index is not None or any(reads_index(one.retrieval) for one in options.values())
    with indexed(benchmark, whole, collection=collection, index=index, votes=votes, progress=extracting) as database:
        engines, opened = _opened(database.collection, asking, options)
        answers = _search_all(engines, benchmark, searching)
        facts = {engine.method: (database.bytes_for(engine), database.learnt_for(engine)) for engine in engines}
        peak, evaluations = _peak_bytes(), {}
        for method, answered in answers.items():
            ranks = [database.ranks_of(answer) for answer in answered]
            scores = score_ranks(ranks, benchmark.truth, protocol_of(benchmark.truth),
                                 distractors=len(benchmark.distractors))
            size, learnt = facts[method]
            one = evaluations[method] = Evaluation(
                dataset=benchmark.name, method=method, model=whole.name, images=len(benchmark.files),
                queries=len(answered), bytes_per_image=round(size / max(1, len(benchmark.files))), scores=scores,
                seconds={"extract": database.seconds, "index": database.index_seconds + opened[method],
                         **_latency(answered)}, skipped=database.skipped,
                learnt=learnt, extracted=database.extracted, peak_bytes=peak, settings=dict(settings or {}),
                query_model=asking.name if asking.identity != whole.identity else "")
            if save_predictions is not None and method in save_predictions:
                about = {key: value for key, value in one.to_json().items() if key not in ("map", "mp")}
                write_ranking(save_predictions[method], ranks,
                              {**about, "distractors": len(benchmark.distractors), **whole.identity})
            observe(Observed(one, benchmark, answered, ranks, database))
    return evaluations


def _opened(collection: Collection, extractor: Extractor,
            methods: Mapping[str, SearchOptions]) -> tuple[list[SearchEngine], dict[str, float]]:
    """The engine of each method, and the seconds that opening it took: some learn words, and make lists of them."""
    engines, seconds = [], {}
    for method, options in methods.items():
        start = time.perf_counter()
        engines.append(SearchEngine(collection, extractor, method=method, options=options))
        seconds[method] = time.perf_counter() - start
    return engines, seconds


@dataclass(frozen=True, eq=False)
class Observed:
    """The answers of one method, with what is known of them.

    answers, ranks: of each query; the latter are numbers of the benchmark's images, best first.
    """

    evaluation: Evaluation
    benchmark: Benchmark
    answers: Sequence[SearchResult]
    ranks: Sequence[IntArray]
    database: Database


@dataclass(frozen=True, eq=False)
class Database:
    """The images of a benchmark, ready to be searched.

    ordinals: (F,) int64, of the benchmark's images in the collection, -1 for one that could not be read; exact copies
    have the same. index: its kind. seconds: that their extraction took; extracted: how many that were, as a collection
    may hold some already. index_seconds: that building the index took, which is next to nothing where it was there.
    skipped: a sentence for each image that could not be read.
    """

    collection: Collection
    ordinals: IntArray
    index: str
    seconds: float
    extracted: int
    skipped: tuple[str, ...]
    index_seconds: float = 0.0

    @cached_property
    def numbers(self) -> Mapping[str, Sequence[int]]:
        """The numbers of the benchmark's images, by the key that a result has; exact copies share one."""
        numbers: dict[str, list[int]] = {}
        for number in np.flatnonzero(self.ordinals >= 0).tolist():
            numbers.setdefault(self.collection.snapshot.key_of(int(self.ordinals[number])), []).append(number)
        return numbers

    @cached_property
    def _in_order(self) -> tuple[IntArray, IntArray]:
        """Numbers of the benchmark's images that have ordinals, in the order of these, and the ordinals."""
        order = np.argsort(self.ordinals, kind="stable")[np.count_nonzero(self.ordinals < 0) :]
        return order, self.ordinals[order]

    def ranks_of(self, answer: SearchResult) -> IntArray:
        """(R,) int64, the numbers of the benchmark's images in an answer, best first; of exact copies, all."""
        order, ordinals = self._in_order
        starts = np.searchsorted(ordinals, answer.ordinals)
        counts = np.searchsorted(ordinals, answer.ordinals, side="right") - starts
        ends = np.cumsum(counts)
        return order[np.arange(counts.sum()) + np.repeat(starts - (ends - counts), counts)]

    def bytes_for(self, engine: SearchEngine) -> int:
        """Bytes on disk that a search has to do with; what only other methods read is left out."""
        sizes, reads = self.collection.bytes_by_kind(), engine.retriever.reads
        if reads is None:
            return sum(sizes.values())
        wanted = {"catalogue", "offsets", "sizes", *reads, *(VERIFICATION_READS if engine.options.candidates else ())}
        return sum(size for kind, size in sizes.items() if kind in wanted)

    def learnt_for(self, engine: SearchEngine) -> str:
        """What a search uses that was learnt from the searched images themselves, as in `Evaluation`."""
        if engine.retriever.learnt:
            return "words"
        reads = engine.retriever.reads
        return self.index if self.index != "exact" and (reads is None or "index" in reads) else ""


@contextmanager
def indexed(benchmark: Benchmark, extractor: Own, *, collection: str | Path | None = None,
            index: IndexOptions | None = None, votes: bool = True, progress: Progress = ignored) -> Iterator[Database]:
    """The images of a benchmark in a collection, kept in a folder if one is given. votes: whether it needs an index."""
    with nullcontext(str(collection)) if collection else tempfile.TemporaryDirectory() as place:
        target = Path(place) if collection else Path(place) / "benchmark.delf"
        with Collection.open_or_create(target, extractor) as opened:
            start = time.perf_counter()
            report = opened.add(benchmark.files, progress=progress)
            if report.interrupted:
                raise KeyboardInterrupt
            seconds = time.perf_counter() - start
            start = time.perf_counter()
            kind = build_index(opened, index) if votes else "exact"
            found = (opened.ordinal_of(path) for path in benchmark.files)
            ordinals = np.array([-1 if ordinal is None else ordinal for ordinal in found], np.int64)
            yield Database(opened, ordinals, kind, seconds, report.added, report.skipped,
                           time.perf_counter() - start)


def answer_all(engines: Sequence[SearchEngine], query: Query, *, top: int | None = None,
               exclude: Sequence[int] = ()) -> dict[str, SearchResult]:
    """The answer of each engine to a query; methods of the same retrieval share its candidates.

    Args:
        top, exclude: as for `SearchEngine.answer`.
    """
    require_top(top)
    found: dict[Any, tuple[Candidates, float]] = {}
    answers = {}
    for engine in engines:
        if engine.options.retrieval not in found:
            start, features = time.perf_counter(), query.features
            candidates = engine.retrieve(features, exclude=exclude)
            found[engine.options.retrieval] = candidates, time.perf_counter() - start
        candidates, spent = found[engine.options.retrieval]
        answer = engine.answer(query, top=top, exclude=exclude, candidates=candidates)
        answers[engine.method] = replace(answer, seconds={"retrieve": spent, **answer.seconds})
    return answers


def _search_all(engines: Sequence[SearchEngine], benchmark: Benchmark,
                progress: Progress) -> dict[str, list[SearchResult]]:
    answers: dict[str, list[SearchResult]] = {engine.method: [] for engine in engines}
    for done, (path, entry) in enumerate(zip(benchmark.queries, benchmark.truth.entries, strict=True), start=1):
        query = engines[0].query(path, box=entry.box)
        for method, answer in answer_all(engines, query).items():
            answers[method].append(answer)
        progress(done, len(benchmark.queries))
    return answers


def _latency(answers: Sequence[SearchResult]) -> dict[str, float]:
    totals = np.array([sum(answer.seconds.values()) for answer in answers])
    stages = {f"query_{stage}": float(np.mean([answer.seconds[stage] for answer in answers]))
              for stage in answers[0].seconds}
    return {"query": float(np.median(totals)), "query_p95": float(np.percentile(totals, 95)), **stages}


def _forget_peak() -> None:
    """Have the process's peak of memory begin anew, where the system can (Linux)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
