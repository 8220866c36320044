"""Published tables, on tiny data sets in the layouts of the large ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from delf.errors import ModelError, OptionError
from delf.evaluation import score
from delf.methods import METHODS
from delf.models import ModelConfig
from delf.reproduce import TABLES, Needs, Outcome, Row, choose_rows, reproduce, with_dimensions

NEEDS = Needs(("resnet50",), 16, "a ResNet-50", "train one", "64 words")
CLASSIC = Row("Oxf5k", "DELF", "oxford5k", "delf", {"classic": 80.0}, NEEDS)
LARGER = replace(CLASSIC, benchmark="Oxf105k", distractors=("flickr100k", "more"))
REVISITED = Row("ROxford", "DELF", "roxford5k", "delf-votes", {"medium": 60.0, "hard": 40.0}, NEEDS)


def picture(seed: int) -> np.ndarray:
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    return np.asarray(cv2.resize(blocks, (64, 48), interpolation=cv2.INTER_CUBIC), np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


@pytest.fixture(autouse=True)
def of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets here are small; what is said of that is seen in `tests/cli/test_miniature.py`."""
    monkeypatch.setattr("delf.reproduce.DATASETS", {})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Oxford as it was (jpg/, queries among the images), revisited (queries apart), and two folders of distractors."""
    folder = tmp_path / "data"
    names = [f"all_souls_{number}" for number in range(6)]
    for number, name in enumerate(names):
        save(folder / "oxford5k/jpg" / f"{name}.jpg", picture(number))
        save(folder / "roxford5k/images" / f"{name}.jpg", picture(number))
    save(folder / "oxford5k/jpg/all_souls_2.jpg", np.roll(picture(0), 5, axis=1))  # shows what image 0 shows
    save(folder / "roxford5k/images/query.jpg", picture(0))
    save(folder / "flickr100k/images/1/a.jpg", np.roll(picture(0), 2, axis=1))  # as alike, and shows nothing
    save(folder / "flickr100k/images/2/b.jpg", picture(51))
    save(folder / "more/c.jpg", picture(52))
    classic = {"imlist": names, "qimlist": [names[0], names[4]],
               "gnd": [{"ok": [0, 2, 5], "junk": [3], "bbx": [0, 0, 64, 48]}, {"ok": [4], "junk": []}]}
    revisited = {"imlist": names, "qimlist": ["query"], "gnd": [{"easy": [0], "hard": [5], "junk": [3]}]}
    for name, truth in (("oxford5k", classic), ("roxford5k", revisited)):
        (folder / name / "gnd.json").write_text(json.dumps(truth))
    return folder


@pytest.fixture
def model(make_stub: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for a model, with the configuration of one."""
    monkeypatch.setattr("delf.reproduce.with_dimensions", lambda extractor, dimensions: extractor)
    config = ModelConfig("stub", trunk="resnet50", attention=True)
    return type("Model", (make_stub,), {"runtime": SimpleNamespace(config=config)})()


def run(rows: Any, model: Any, data: Path, **options: Any) -> list[Outcome]:
    return list(reproduce(rows, lambda: model, data=data, runs=data.parent / "runs", **options))


def average_precision(ranking: list[int], positives: set[int], junk: set[int]) -> float:
    """Percent, by the words of the protocol."""
    kept = [image for image in ranking if image not in junk]
    area, hits = 0.0, 0
    for place, image in enumerate(kept):
        if image in positives:
            before = 1.0 if place == 0 else hits / place
            hits += 1
            area += (before + hits / (place + 1)) / 2
    return 100 * area / len(positives)


def test_the_classic_protocol_with_and_without_the_photos_of_the_queries(model: Any, data: Path) -> None:
    [outcome] = run([CLASSIC], model, data)
    ranks = json.loads(Path(outcome.predictions).read_text())["ranks"]
    assert ranks[0][0] == 0, "a query finds the photo that it is"
    first, second = average_precision(ranks[0], {0, 2, 5}, {3}), average_precision(ranks[1], {4}, set())
    assert outcome.values == {"classic": pytest.approx((first + second) / 2)}
    assert outcome.differences == {"classic": pytest.approx((first + second) / 2 - 80)}
    assert outcome.without_own_images == {"classic": pytest.approx(average_precision(ranks[0], {2, 5}, {0, 3}))}
    assert outcome.own_images == 2
    assert (outcome.reasons, outcome.missing) == ((), "")


def test_distractors_are_searched_in_the_same_database(model: Any, data: Path) -> None:
    small, large = run([CLASSIC, LARGER], model, data)
    assert (small.run["images"], large.run["images"]) == (6, 9)
    ranks = json.loads(Path(large.predictions).read_text())["ranks"]
    assert max(map(max, ranks)) == 8
    expected = (average_precision(ranks[0], {0, 2, 5}, {3}) + average_precision(ranks[1], {4}, set())) / 2
    assert large.values["classic"] == pytest.approx(expected)
    assert expected < small.values["classic"]
    assert score(large.predictions, data / "oxford5k/gnd.json", "classic")["map"] == large.values


def test_the_revisited_protocols(model: Any, data: Path) -> None:
    [outcome] = run([REVISITED], model, data)
    [ranks] = json.loads(Path(outcome.predictions).read_text())["ranks"]
    assert outcome.values == {"medium": pytest.approx(average_precision(ranks, {0, 5}, {3})),
                              "hard": pytest.approx(average_precision(ranks, {5}, {0, 3}))}
    assert (outcome.without_own_images, outcome.own_images) == (None, 0)


def test_a_finished_row_is_not_computed_again(model: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run([CLASSIC], model, data)
    other = replace(CLASSIC, method="delf-votes")
    run([other], model, data)
    assert model.extracted == 6, "rows of one data set share a collection"
    monkeypatch.setattr("delf.reproduce.evaluate_folder", None)
    again = run([CLASSIC], model, data)
    assert [one.to_json() for one in again] == [one.to_json() for one in first]
    with pytest.raises(TypeError):
        run([CLASSIC], model, data, limit=1)


def test_what_is_told_of_the_measurement(model: Any, data: Path) -> None:
    [outcome] = run([LARGER], model, data, limit=1)
    told = json.loads(json.dumps(outcome.to_json(), allow_nan=False))
    assert told["row"] == "oxf105k/delf"
    assert (told["images"], told["queries"], told["extracted"], told["learnt"]) == (9, 1, 9, "")
    assert {"extract", "query"} <= set(told["seconds"])
    assert told["peak_bytes"] > 10_000_000
    assert told["bytes_per_image"] > 20 * 24
    assert told["model"] == {"name": "stub", "fingerprint": model.fingerprint}
    assert told["needs"]["codebook"] == "64 words"
    assert (told["comparable"], told["reasons"]) == (False, ["only the first 1 queries were asked"])


def test_figures_that_cannot_be_compared(model: Any, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reasons(row: Row = CLASSIC, **config: Any) -> tuple[str, ...]:
        changed = replace(model.runtime.config, **config)
        monkeypatch.setattr(type(model), "runtime", SimpleNamespace(config=changed))
        return run([row], model, data)[0].reasons

    [trunk] = reasons(trunk="resnet18")
    assert "stub is a resnet18 with 16 dimensions; the published row needs a ResNet-50: train one" in trunk
    assert "stub has no trained attention; the published row needs" in reasons(trunk="resnet50", attention=False)[0]
    [dimensions] = reasons(replace(CLASSIC, needs=replace(NEEDS, dimensions=40)), attention=True)
    assert "a resnet50 with 16 dimensions" in dimensions
    assert reasons(replace(CLASSIC, needs=replace(NEEDS, note="by another network"))) == ("by another network",)
    file = Path(run([CLASSIC], model, data)[0].predictions)
    for learnt, words in (("ivfpq", "the quantisers of the ivfpq index"), ("words", "the visual words")):
        file.write_text(json.dumps({**json.loads(file.read_text()), "learnt": learnt}))
        assert reasons() == (f"{words} were learnt from the very photos that are searched",)


# --- what is missing


def test_a_row_without_its_data_says_how_to_get_it(model: Any, data: Path) -> None:
    (data / "more/c.jpg").unlink()
    absent = replace(CLASSIC, dataset="paris6k")
    there, first, second = run([CLASSIC, absent, LARGER], model, data)
    assert there.values
    assert f"delf dataset get paris6k -o {data}/paris6k" in first.missing
    assert f"delf dataset get more -o {data}/more" in second.missing
    told = json.loads(json.dumps(first.to_json(), allow_nan=False))
    assert told["missing"] == first.missing
    assert (told["value"], told["difference"], told["comparable"]) == ({}, {"classic": None}, False)


def test_a_row_without_its_method_or_model(data: Path) -> None:
    def load() -> Any:
        loads.append(1)
        raise ModelError("there is no model 'r50'")

    loads: list[int] = []
    method, model = reproduce([replace(CLASSIC, method="magic"), CLASSIC], load, data=data, runs=data.parent / "runs")
    assert "no search method 'magic'; known are delf" in method.missing
    assert model.missing == "there is no model 'r50'; the published row needs a ResNet-50: train one"
    assert len(loads) == 1
    assert not (data.parent / "runs").exists(), "nothing was run"


def test_runs_of_another_model_are_not_taken_for_ones_own(model: Any, data: Path) -> None:
    file = Path(run([CLASSIC], model, data)[0].predictions)
    file.write_text(json.dumps({**json.loads(file.read_text()), "options": {}}))
    assert f"{file} was made with another model or other options; delete it" in run([CLASSIC], model, data)[0].missing


def test_a_ground_truth_of_another_kind(model: Any, data: Path) -> None:
    [outcome] = run([replace(REVISITED, dataset="oxford5k")], model, data)
    assert "is a classic ground truth, which has no setting 'medium': it is not that of ROxford" in outcome.missing
    (data / "oxford5k/gnd.json").unlink()
    assert "not a benchmark" in run([CLASSIC], model, data)[0].missing


# --- the tables


def test_the_tables_have_the_published_figures() -> None:
    published = {row.name: row.published for table in TABLES.values() for row in table.rows}
    assert published["oxf105k/delf-paper"] == {"classic": 82.6}
    assert published["par106k/delf+global+qe"] == {"classic": 92.8}
    assert published["rparis/asmk+sp"] == {"medium": 76.9, "hard": 55.4}
    assert published["roxford/r50+sp"] == {"medium": 78.3, "hard": 57.9}
    assert published["rparis/r18"] == {"medium": 79.4}
    assert [len(table.rows) for table in TABLES.values()] == [12, 4, 4, 6, 4]
    for table in TABLES.values():
        assert len({row.name for row in table.rows}) == len(table.rows)
        assert {row.method for row in table.rows} <= METHODS.keys()
    for table in TABLES.values():
        for row in table.rows:
            assert row.distractors == (("flickr100k",) if row.benchmark in ("Oxf105k", "Par106k") else ())
    assert "not checked" in TABLES["paper"].remark


def test_rows_by_name() -> None:
    assert [row.name for row in choose_rows("paper", ["Oxf5k", "par6k/global+qe"])] == [
        "oxf5k/delf-paper", "oxf5k/delf+global+qe", "oxf5k/global+qe", "par6k/global+qe"]
    assert choose_rows("revisited") == TABLES["revisited"].rows
    with pytest.raises(OptionError, match="no table 'mine'; known are paper, revisited, how, delg, dir"):
        choose_rows("mine")
    with pytest.raises(OptionError, match="no row 'oxf'; it has oxf5k/delf-paper"):
        choose_rows("paper", ["oxf"])


def test_the_dimensions_of_the_row_are_taken_where_the_model_has_them(extractor: Any) -> None:
    assert with_dimensions(extractor, 40).options.dimensions == 40
    assert with_dimensions(extractor, 40).identity["model"] == extractor.identity["model"]
    assert with_dimensions(extractor, extractor.options.dimensions) is extractor
    assert with_dimensions(extractor, 4096) is extractor
    assert "delf-paper" in METHODS
