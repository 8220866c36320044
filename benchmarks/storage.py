"""What compact storage costs: mAP against bytes an image, for the features that are kept and the bits of a descriptor.

    python benchmarks/storage.py runs/holdout --collection runs/holdout.delf [--settings 500:500:32 640:640:32] \\
        [--limit 84] [--turned runs/holdout-turned] [--plot storage.png]

A setting is the number of features that are kept, that of those that are searched, and that of the dimensions that
have a bit for their reach.

The folder is that of `holdout.py`: nothing is chosen on a benchmark that is reported. The collection is the full one,
with the features of the folder's images (made where there is none); each storage is a copy of it, converted. Bytes are
all that the converted collection has on disk, with the lists of `delf-asmk`. All queries are searched as they are; with
--turned, a few queries are also searched with all looks (`--turned` of `holdout.py`), in full storage and in the one
that is the default.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from delf.collection import Collection, CompactOptions
from delf.collection.compact import WordCodes
from delf.datasets.folders import Benchmark, read_benchmark
from delf.evaluation import Scores, score_ranks
from delf.features import Delf
from delf.images import read_image
from delf.index.words import Codebook
from delf.models import PACKAGED
from delf.search import SearchEngine
from delf.types import Features

METHOD = "delf-asmk"
SETTINGS = ("300:300:32", "500:500:32", "640:640:0", "640:640:32", "800:400:32")
SAMPLE = 20  # images whose descriptors are compared with what comes back of them


@dataclass(frozen=True)
class Row:
    """A storage that was measured. bytes: an image. found: with inliers; alone: by words alone."""

    name: str
    options: CompactOptions | None
    bytes: float
    found: Scores
    alone: Scores
    inliers: float

    @property
    def coded(self) -> str:
        """How descriptors are stored and searched, in words."""
        if self.options is None:
            return "full"
        some = self.options.searched < self.options.features
        return f"{self.options.reaches} reaches{f', {self.options.searched} searched' if some else ''}"

    def score(self, kind: str) -> float:
        """The mAP of a part of the ground truth, with inliers."""
        return self.found.map[kind] or 0.0


def main() -> None:
    """Measure all storages, print a table, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--collection", type=Path, required=True, help="the full one, which is made if there is none")
    parser.add_argument("--settings", nargs="+", type=setting, default=[setting(one) for one in SETTINGS])
    parser.add_argument("--limit", type=int, help="only the first so many queries")
    parser.add_argument("--turned", type=Path, help="a folder of turned queries")
    parser.add_argument("--turned-limit", type=int, default=28)
    parser.add_argument("--plot", type=Path, help="a PNG to write the picture to")
    arguments = parser.parse_args()
    extractor, benchmark = Delf.load(), read_benchmark(arguments.folder, limit=arguments.limit)
    with Collection.open_or_create(arguments.collection, extractor) as full:
        full.add(benchmark.images)
        SearchEngine(full, extractor)  # makes the lists
        queries = [extractor.extract(part(benchmark, number)) for number in range(len(benchmark.queries))]
        print_codes(full, sorted({one.reaches for one in arguments.settings}))
        print("\n| storage | bytes an image | Medium / Hard | by words alone | inliers of the best |\n"
              "|---|---|---|---|---|")
        rows = [measured(full, options, extractor, benchmark, queries) for options in (None, *arguments.settings)]
        if arguments.turned:
            print_turned(full, extractor, arguments.turned, arguments.turned_limit)
    if arguments.plot:
        draw(rows, arguments.plot)


def setting(text: str) -> CompactOptions:
    """FEATURES:SEARCHED:REACHES."""
    return CompactOptions(*map(int, text.split(":")))


def part(benchmark: Benchmark, number: int) -> np.ndarray:
    """A query, cut out by its box."""
    image, box = read_image(benchmark.queries[number]), benchmark.truth.entries[number].box
    if box is None:
        return image
    left, top, right, bottom = (round(side) for side in box)
    return image[max(0, top) : bottom, max(0, left) : right]


def print_codes(full: Collection, reaches: Iterable[int]) -> None:
    """How near what comes back of a descriptor is to it, and whether its word is still the nearest."""
    codebook = Codebook.load(PACKAGED / f"{full.about['model']['name']}.words")
    chosen = np.linspace(0, len(full) - 1, SAMPLE).astype(int)
    wanted = np.concatenate([full.features(number).descriptors for number in chosen.tolist()])
    words = codebook.assign(wanted)[:, 0]
    print("| reaches | bytes of a descriptor | cosine, mean | of one in twenty below | another word |\n"
          "|---|---|---|---|---|")
    for count in reaches:
        codes = WordCodes(codebook, count)
        stored = codes.encode(wanted)
        found = codes.decode(stored)
        cosines = np.einsum("nd,nd->n", wanted, found)
        moved = float(np.mean(codebook.assign(found)[:, 0] != words))
        print(f"| {count} | {stored.itemsize} | {cosines.mean():.4f} | {np.percentile(cosines, 5):.4f} | {moved:.2%} |")


def measured(full: Collection, options: CompactOptions | None, extractor: Delf, benchmark: Benchmark,
             queries: Sequence[Features]) -> Row:
    """Convert a copy of the collection, search it, and print what was found."""
    with tempfile.TemporaryDirectory(dir=full.folder.parent) as place:
        if options is None:
            return printed("full", full, None, extractor, benchmark, queries)
        folder = Path(place) / "compact.delf"
        shutil.copytree(full.folder, folder)
        with Collection.open(folder) as copy:
            copy.convert(options)
            name = f"{options.features} features, {options.searched} searched, {options.reaches} reaches"
            return printed(name, copy, options, extractor, benchmark, queries)


def printed(name: str, collection: Collection, options: CompactOptions | None, extractor: Delf, benchmark: Benchmark,
            queries: Sequence[Features]) -> Row:
    """Search a collection, and print the row."""
    engine = SearchEngine(collection, extractor, method=METHOD)
    numbers = {collection.ordinal_of(path): number for number, path in enumerate(benchmark.images)}
    answers = [engine.search_features(query, top=None) for query in queries]
    found = score_ranks([[numbers[one.ordinal] for one in answer.results] for answer in answers], benchmark.truth)
    alone = score_ranks([[numbers[ordinal] for ordinal in engine.retrieve(query).images.tolist()] for query in queries],
                        benchmark.truth)
    row = Row(name, options, sum(collection.bytes_by_kind().values()) / len(collection), found, alone,
              float(np.mean([answer.results[0].inliers for answer in answers])))
    print(f"| {name} | {row.bytes:,.0f} | {both(found)} | {both(alone)} | {row.inliers:.0f} |", flush=True)
    return row


def both(scores: Scores) -> str:
    """Medium and Hard mAP."""
    return " / ".join(f"{scores.map[kind] or 0.0:.1f}" for kind in ("medium", "hard"))


def print_turned(full: Collection, extractor: Delf, folder: Path, limit: int) -> None:
    """What turned queries find, with all looks."""
    benchmark = read_benchmark(folder, limit=limit)
    print("\n| turned queries | matched | Medium / Hard | seconds of a search |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=full.folder.parent) as place:
        compact = Path(place) / "compact.delf"
        shutil.copytree(full.folder, compact)
        with Collection.open(compact) as copy:
            copy.convert()
            for collection in (full, copy):
                numbers = {Path(collection.image(ordinal).path).stem: ordinal for ordinal in range(len(collection))}
                places = {numbers[path.stem]: number for number, path in enumerate(benchmark.images)}
                engine = SearchEngine(collection, extractor, method=METHOD)
                answers = [engine.search(part(benchmark, number), top=None) for number in range(len(benchmark.queries))]
                scores = score_ranks([[places[one.ordinal] for one in answer.results if one.ordinal in places]
                                      for answer in answers], benchmark.truth)
                print(f"| {collection.storage} | {sum(bool(answer.match) for answer in answers)} of {len(answers)} | "
                      f"{both(scores)} | {np.mean([sum(answer.seconds.values()) for answer in answers]):.2f} |",
                      flush=True)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Draw mAP against kilobytes an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for kind, marker in (("medium", "o"), ("hard", "s")):
        whole = rows[0].score(kind)
        axes.axhline(whole, color="0.6", linestyle="--", linewidth=1)
        axes.text(rows[0].bytes / 1000, whole, f"full, {rows[0].bytes / 1000:.0f} kB", ha="right", va="bottom")
        for coded in dict.fromkeys(row.coded for row in rows if row.options):
            line = [row for row in rows if row.coded == coded]
            axes.plot([row.bytes / 1000 for row in line], [row.score(kind) for row in line], marker=marker,
                      label=f"{kind.capitalize()}, {coded}")
            for row in line:
                assert row.options is not None
                axes.annotate(str(row.options.features), (row.bytes / 1000, row.score(kind)),
                              textcoords="offset points", xytext=(4, -10), fontsize=8)
    axes.axvline(30, color="0.6", linewidth=1)
    axes.set(xscale="log", xlabel="kilobytes an image, by the number of features that are kept", ylabel="mAP")
    axes.set_xticks([10, 20, 30, 50, 100, 200], ["10", "20", "30", "50", "100", "200"])
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
