"""Published tables, measured again: which data set, method and model each row needs, what it gives here.

The rows are data (`TABLES`). Rankings are written to a folder of runs and scored from there, so that a row that is
finished is never computed again, and an interrupted one goes on with the photos that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from delf.datasets import DATASETS
from delf.datasets.folders import first_queries, truth_file
from delf.datasets.getting import make_truth
from delf.errors import DelfError, EvaluationError, ModelError, OptionError
from delf.evaluate import Progress, evaluate_folder, ignored
from delf.evaluation import Ranking, protocol_of, read_ground_truth, read_ranking, score_ranks
from delf.features import Delf
from delf.images import display_path, find_images
from delf.methods import METHODS

Values = Mapping[str, float | None]
RUN = ("images", "queries", "seconds", "extracted", "peak_bytes", "bytes_per_image", "learnt", "skipped", "model",
       "options")  # what a file of rankings says of its measurement


@dataclass(frozen=True)
class Needs:
    """What a published figure was measured with.

    trunks: keys of `delf.models.TRUNKS` that are that of the model. dimensions: of its local descriptors; 0 where they
    do not matter. model, codebook: in words. cure: how to get such a model. note: what no model here can have, if
    anything. attention: whether it was trained. unstated: settings that the publication does not state, and what delf
    takes for them.
    """

    trunks: tuple[str, ...]
    dimensions: int
    model: str
    cure: str
    codebook: str
    note: str = ""
    attention: bool = True
    unstated: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table on one data set.

    benchmark: its name in the literature. system: as the publication calls it. dataset, distractors: names of folders;
    method: a key of `delf.methods.METHODS`. published: mAP in percent by setting. label: what the row is called where
    the method does not tell it from others of its table.
    """

    benchmark: str
    system: str
    dataset: str
    method: str
    published: Mapping[str, float]
    needs: Needs
    distractors: tuple[str, ...] = ()
    label: str = ""

    @property
    def name(self) -> str:
        """The name by which the row is chosen."""
        return f"{self.benchmark.lower()}/{self.label or self.method}"


@dataclass(frozen=True)
class Table:
    """Rows of one publication. source: which; remark: how sure the published figures are, or how they were measured."""

    source: str
    remark: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Outcome:
    """What a row gave.

    values: mAP in percent by setting. without_own_images: the same where the photo that a query was cut from counts for
    nothing; None where the database holds none. own_images: how many it holds. run: what the file of rankings says of
    the measurement, the keys `RUN`. predictions: that file.
    reasons: why the figure cannot be compared with the published one. missing: why there is none, and what to do.
    """

    row: Row
    values: Values = field(default_factory=dict)
    without_own_images: Values | None = None
    own_images: int = 0
    run: Mapping[str, Any] = field(default_factory=dict)
    predictions: str = ""
    reasons: tuple[str, ...] = ()
    missing: str = ""

    @property
    def differences(self) -> Values:
        """Ours less the published, by setting."""
        return {setting: None if (value := self.values.get(setting)) is None else value - published
                for setting, published in self.row.published.items()}

    def to_json(self) -> dict[str, Any]:
        """The object that `delf reproduce --json` prints."""
        row = asdict(self.row)
        return {"row": self.row.name, **row, "value": dict(self.values), "difference": dict(self.differences),
                "without_own_images": self.without_own_images, "own_images": self.own_images, **self.run,
                "comparable": not self.reasons and not self.missing, "reasons": list(self.reasons),
                "missing": self.missing or None, "predictions": self.predictions or None}


_LANDMARKS = "ResNet-50 to conv4, fine-tuned on photos of landmarks, with trained attention,"
_RESNET50 = ("resnet50", "slim50", "keras50")
_TRAIN = ("import the released one (docs/weights.md), or train one with delf train paper --data PHOTOS --start "
          "resnet50-0676ba61.pth -o NAME.safetensors, and name it with --model")
LOCAL = Needs(_RESNET50, 40, f"{_LANDMARKS} 40 dimensions", _TRAIN, "8,192 coarse words and product quantisers of 10 "
              "times 5 bits, learnt from other photos than those searched",
              unstated="the model of RANSAC, its threshold and trials, and how many images it re-ranks")
BOTH = replace(LOCAL, note="the published row has the global descriptor of another network (DIR: ResNet-101, R-MAC, "
                           "2,048 dimensions), here it is the model's own",
               unstated=f"{LOCAL.unstated}; how the two scores are joined; how far queries are expanded")
GLOBAL = Needs(("resnet101",), 0, "ResNet-101 with R-MAC, trained for retrieval (DIR), 2,048 dimensions",
               "import one of DIR with delf weights import (with GeM, which its authors recommend since), or train one "
               "with delf train joint", "none", attention=False, unstated="how far queries are expanded")
WORDS = Needs(_RESNET50, 128, f"{_LANDMARKS} 128 dimensions", _TRAIN,
              "65,536 words from 20 million descriptors of other photos than those searched",
              unstated="all of spatial verification but that the best 100 images are re-ranked")
HOW = Needs(("resnet50",), 128, "ResNet-50 to conv4 (HOW), 128 dimensions",
            "delf weights get how-r50, then delf weights import weights/how_r50-.pth -o how-r50.safetensors",
            "65,536 words from 20,000 photos of SfM-120k at one scale", attention=False,
            note="descriptors of HOW have lengths that its authors aggregate, here all have unit length")
HOW18 = replace(HOW, trunks=("resnet18-conv5",), model="ResNet-18 (HOW), 128 dimensions",
                cure="delf weights get how-r18, then delf weights import weights/how_r18.pth -o how-r18.safetensors")
DELG50 = Needs(("keras50",), 128, "DELG, ResNet-50, trained on Google Landmarks v2 (clean)",
               "delf weights get delg-r50-gldv2clean, then delf weights import with its configuration", "none",
               unstated="what the configuration of DELG leaves open is in docs/reproduce.md")
DELG101 = replace(DELG50, trunks=("keras101",), model="DELG, ResNet-101, trained on Google Landmarks v2 (clean)",
                  cure="delf weights get delg-r101-gldv2clean, then delf weights import with its configuration")
AP50 = Needs(("resnet50",), 0, "ResNet-50 with GeM, trained by average precision (DIR), whitened, 2,048 dimensions",
             "get it from github.com/naver/deep-image-retrieval, then delf weights import FILE -o NAME.safetensors",
             "none", attention=False)
AP101 = replace(AP50, trunks=("resnet101",), model=AP50.model.replace("50", "101", 1))


def _paper(system: str, method: str, needs: Needs, *published: float) -> tuple[Row, ...]:
    places = (("Oxf5k", "oxford5k", ()), ("Oxf105k", "oxford5k", ("flickr100k",)),
              ("Par6k", "paris6k", ()), ("Par106k", "paris6k", ("flickr100k",)))
    return tuple(Row(benchmark, system, dataset, method, {"classic": value}, needs, distractors)
                 for (benchmark, dataset, distractors), value in zip(places, published, strict=True))


def _revisited(system: str, method: str, *published: tuple[float, ...], needs: Needs = WORDS,
               label: str = "") -> tuple[Row, ...]:
    places = (("ROxford", "roxford5k"), ("RParis", "rparis6k"))
    return tuple(Row(benchmark, system, dataset, method, dict(zip(("medium", "hard"), values, strict=False)), needs,
                     label=label) for (benchmark, dataset), values in zip(places, published, strict=True))


TABLES: dict[str, Table] = {
    "paper": Table(
        "Noh et al., ICCV 2017, table 1",
        "the published figures are quoted from secondary sources and were not checked against the paper",
        (*_paper("DELF+FT+ATT", "delf-paper", LOCAL, 83.8, 82.6, 85.0, 81.7),
         *_paper("DELF+FT+ATT+DIR+QE", "delf+global+qe", BOTH, 90.0, 88.5, 95.7, 92.8),
         *_paper("DIR+QE", "global+qe", GLOBAL, 87.1, 85.2, 95.3, 91.8))),
    "revisited": Table(
        "Radenovic et al., CVPR 2018",
        "the settings of the published spatial verification were not released",
        (*_revisited("DELF-ASMK*+SP", "asmk+sp", (67.8, 43.1), (76.9, 55.4)),
         *_revisited("DELF-HQE+SP", "hqe+sp", (73.4, 50.3), (84.0, 69.3)))),
    "how": Table(
        "Tolias et al., ECCV 2020, table 2, and its code",
        "the models whose figures these are can be got; n = 2,000 needs more features than the model carries",
        (*_revisited("R18-HOW (n = 1000)", "asmk", (75.1,), (79.4,), needs=HOW18, label="r18"),
         *_revisited("R50-HOW (n = 1000)", "asmk", (78.3,), (80.1,), needs=HOW, label="r50"))),
    "delg": Table(
        "Cao et al., ECCV 2020, table 3",
        "quoted from secondary sources; verification is by protocol there, for all protocols at once here",
        (*_revisited("DELG R50 global", "global", (73.6, 51.0), (85.7, 71.5), needs=DELG50, label="r50"),
         *_revisited("DELG R50 +GV", "global+sp", (78.3, 57.9), (85.7, 71.0), needs=DELG50, label="r50+sp"),
         *_revisited("DELG R101 +GV", "global+sp", (81.2, 64.0), (87.2, 72.8), needs=DELG101, label="r101+sp"))),
    "dir": Table(
        "Revaud et al., ICCV 2019, and its code",
        "one size of each photo, whitened with the power 0.25; as the README of the code has them",
        (*_revisited("R50-AP-GeM", "global", (65.5, 41.0), (77.6, 57.1), needs=AP50, label="r50"),
         *_revisited("R101-AP-GeM", "global", (67.1, 42.3), (80.3, 60.9), needs=AP101, label="r101"))),
}


def choose_rows(table: str, names: Sequence[str] = ()) -> tuple[Row, ...]:
    """The rows of a table by their names, or by the name of a benchmark; all of them where none is given.

    Raises:
        OptionError: there is no such table or row.
    """
    if table not in TABLES:
        raise OptionError(f"there is no table {table!r}; known are {', '.join(TABLES)}")
    rows = TABLES[table].rows
    wanted = [name.lower() for name in names]
    for name in wanted:
        if not any(_is_called(row, name) for row in rows):
            raise OptionError(f"the table {table!r} has no row {name!r}; it has {', '.join(row.name for row in rows)}")
    return tuple(row for row in rows if not wanted or any(_is_called(row, name) for name in wanted))


def _is_called(row: Row, name: str) -> bool:
    return name in (row.name, row.name.partition("/")[0])


def reproduce(rows: Sequence[Row], load: Callable[[], Delf], *, data: str | Path, runs: str | Path,
              limit: int | None = None, extracting: Progress = ignored,
              searching: Progress = ignored) -> Iterator[Outcome]:
    """Measure rows, one after the other; a row that lacks something says so and how to get it.

    Args:
        load: loads the model; called once, when a row needs it.
        data: the folder that holds those of the data sets. runs: where rankings and collections go.
        limit: only the first so many queries.
    """
    data, runs = Path(data), Path(runs)
    model: list[Delf] = []
    for row in rows:
        missing = _missing(row, data)
        if missing:
            yield Outcome(row, missing=missing)
            continue
        try:
            model = model or [load()]
            yield _measured(row, with_dimensions(model[0], row.needs.dimensions), data, runs, limit, extracting,
                            searching)
        except ModelError as error:
            yield Outcome(row, missing=f"{error}; {_wanted(row.needs)}")
        except DelfError as error:
            yield Outcome(row, missing=str(error))


def with_dimensions(extractor: Delf, dimensions: int) -> Delf:
    """The same model with descriptors of so many dimensions, if it has as many; else, and for 0, as it is."""
    if dimensions in (0, extractor.options.dimensions) or len(extractor.runtime.pca.components) < dimensions:
        return extractor
    return Delf(extractor.runtime, replace(extractor.options, dimensions=dimensions), threads=extractor.threads)


def make_missing_truth(dataset: str, folder: Path) -> None:
    """Write `gnd.json` of a classic data set whose ground truth is still the text files of its publishers.

    Raises:
        DatasetError: those are damaged, or name photos that are not there.
    """
    known = DATASETS.get(dataset)
    classic = known.truth.classic if known is not None and known.truth is not None else ""
    if known is None or not classic or not (folder / classic).is_dir():
        return
    if not (folder / "gnd.json").is_file() and not any(folder.glob("gnd*.pkl")):
        make_truth(known, folder)


def _missing(row: Row, data: Path) -> str:
    if row.method not in METHODS:
        return f"this version has no search method {row.method!r}; known are {', '.join(METHODS)}"
    for name in (row.dataset, *row.distractors):
        folder = data / name
        if not folder.is_dir() or next(find_images([folder], on_error=lambda _: None), None) is None:
            return (f"{display_path(folder)} holds no photos: get them with delf dataset get {name} -o "
                    f"{display_path(folder)}, or say with --data which folder holds the data sets")
    return ""


def _measured(row: Row, extractor: Delf, data: Path, runs: Path, limit: int | None, extracting: Progress,
              searching: Progress) -> Outcome:
    identity = extractor.identity
    model = f"{identity['model']['name']}-{identity['model']['fingerprint'][:8]}-{identity['options']['dimensions']}d"
    photos = "+".join((row.dataset, *row.distractors))
    part = "" if limit is None else f"-first{limit}"
    file = runs / f"{photos}-{row.method}-{model}{part}.json"
    make_missing_truth(row.dataset, data / row.dataset)
    if not file.is_file():
        runs.mkdir(parents=True, exist_ok=True)
        evaluate_folder(data / row.dataset, extractor, method=row.method, limit=limit, save_predictions=file,
                        distractors=[data / name for name in row.distractors],
                        collection=runs / f"{photos}-{model}.delf", extracting=extracting, searching=searching)
    return _scored(row, file, data, extractor, limit)


def _scored(row: Row, file: Path, data: Path, extractor: Delf, limit: int | None) -> Outcome:
    truth = first_queries(read_ground_truth(truth_file(data / row.dataset)), limit)
    ranking, protocol = read_ranking(file, truth), protocol_of(truth)
    _require_same(ranking, extractor, file)
    without, own = truth.without_own_images(), sum(truth.own_image(query) is not None for query in range(len(truth)))
    means = [score_ranks(ranking.ranks, known, protocol, distractors=ranking.distractors).map
             for known in (truth, without)]
    for setting in row.published:
        if setting not in means[0]:
            raise EvaluationError(f"{truth.source} is a {protocol} ground truth, which has no setting {setting!r}: it "
                                  f"is not that of {row.benchmark}")
    values = [{setting: mean[setting] for setting in row.published} for mean in means]
    run = {key: ranking.metadata.get(key) for key in RUN}
    return Outcome(row, values[0], values[1] if own else None, own, run, str(file),
                   tuple(_reasons(row, extractor, ranking, run, limit)))


def _require_same(ranking: Ranking, extractor: Delf, file: Path) -> None:
    for key, value in extractor.identity.items():
        if ranking.metadata.get(key) != value:
            raise EvaluationError(f"{display_path(file)} was made with another model or other options; delete it, or "
                                  "name another folder with --runs")


def _reasons(row: Row, extractor: Delf, ranking: Ranking, run: Mapping[str, Any],
             limit: int | None) -> Iterator[str]:
    """Why a figure cannot be compared with the published one."""
    config, dimensions, needs = extractor.runtime.config, extractor.identity["options"]["dimensions"], row.needs
    if config.trunk not in needs.trunks or dimensions != (needs.dimensions or dimensions):
        yield f"{config.name} is a {config.trunk} with {dimensions} dimensions; {_wanted(needs)}"
    elif needs.attention and not config.attention:
        yield f"{config.name} has no trained attention; {_wanted(needs)}"
    if needs.note:
        yield needs.note
    known = DATASETS.get(row.dataset)
    if known is not None and known.truth is not None and limit is None:
        there = (run["images"] - ranking.distractors, run["queries"])
        if there != (known.truth.images, known.truth.queries):
            yield (f"the folder {row.dataset} has {there[0]:,} photos and {there[1]:,} queries, and the published set "
                   f"{known.truth.images:,} and {known.truth.queries}")
    if run["learnt"]:
        what = "the visual words" if run["learnt"] == "words" else f"the quantisers of the {run['learnt']} index"
        yield f"{what} were learnt from the very photos that are searched"
    if limit is not None:
        yield f"only the first {limit} queries were asked"


def _wanted(needs: Needs) -> str:
    return f"the published row needs {needs.model}: {needs.cure}"
