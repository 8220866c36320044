"""Recipes, and the whole of training: photos and weights in, one model file out that the extractor can use."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from delf.cli.app import app
from delf.collection import Collection
from delf.errors import DelfError, ModelError
from delf.features import Delf
from delf.files import locked_folder
from delf.images import read_image
from delf.models import PACKAGED, ModelConfig
from delf.network.model import DelfModel
from delf.ranking.confidence import DETAILS, EVIDENCE, probability
from delf.training.calibration import BY_WORDS, Samples, fit, read_reliability, reliability
from delf.training.correspondences import Correspondences
from delf.training.engine import run_stage
from delf.training.pairs import PairOptions, make_correspondences
from delf.training.photos import LabelledPhoto, PhotoCache, SplitOptions, read_photos, write_photos
from delf.training.recipe import RECIPES, STAGES, Recipe, Report, kept, own_device, starting_model, train_model
from delf.training.validation import RetrievalOptions, retrieval_map

SMALL = '''
[model]
trunk = "resnet18"

[[stage]]
kind = "correspondences"
steps = 3
batch = 2
views = {side = 128}

[[stage]]
kind = "attention"
steps = 3
batch = 2
side = 100
crop = 96
scales = [0.5, 1.0]
hidden = 8

[finish]
photos = 4
dimensions = 24
projection = "keep"
'''


def recipe(tmp_path: Path, text: str = SMALL) -> Recipe:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    return Recipe.read(path)


@pytest.mark.parametrize("name", [path.stem for path in sorted(RECIPES.glob("*.toml"))])
def test_packaged_recipes_can_be_read(name: str) -> None:
    read = Recipe.read(name)
    assert {plan.kind for plan in read.stages} <= set(STAGES)


def test_the_paper_recipe_trains(labelled: list[LabelledPhoto]) -> None:
    """A few steps of each stage as published, crops and scales included, on an untrained ResNet-50."""
    from delf.training.attention import AttentionStage
    from delf.training.classification import ClassificationStage

    paper = Recipe.read("paper")
    assert [plan.kind for plan in paper.stages] == ["classification", "attention"]
    torch.manual_seed(0)
    model = DelfModel(paper.model).eval()
    for plan, kind in zip(paper.stages, (ClassificationStage, AttentionStage), strict=True):
        stage = kind(model, labelled, PhotoCache(), 2, plan.options)  # type: ignore[arg-type]
        found: list[float] = []
        run_stage(stage, replace(plan.loop, steps=2, batch=2),
                  report=lambda progress, to=found: to.append(progress.values.get("loss", 0.0)))
        assert all(np.isfinite(found))


def test_a_model_from_weights_and_photos(labelled: list[LabelledPhoto], trunk_file: Path, half_size: Path,
                                         correspondences: Correspondences, tmp_path: Path) -> None:
    target = tmp_path / "own.safetensors"
    reports: list[Report] = []
    held = [LabelledPhoto(half_size / f"{name}.jpg", name.partition("-")[0], "holdout")
            for name in ("cat", "cat-side", "coins", "coins-side") if (half_size / f"{name}.jpg").exists()]
    train_model(recipe(tmp_path), [*labelled, *held], target, start=trunk_file, correspondences=correspondences,
                held=correspondences, about="Three things.", licence="CC0-1.0", report=reports.append)
    model = DelfModel.from_pretrained(target)
    assert (model.config.about, model.config.licence, model.config.attention) == ("Three things.", "CC0-1.0", True)
    features = Delf.load(target, dimensions=24).extract(read_image(half_size / "cat.jpg"))
    assert features.descriptors.shape == (len(features.scores), 24)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    run = tmp_path / "own.run"
    assert {"photos.csv", "1-correspondences", "2-attention"} <= {path.name for path in run.iterdir()}
    # Once more: nothing is left to train, and the model is the same.
    train_model(recipe(tmp_path), [*labelled, *held], target, start=trunk_file, correspondences=correspondences)
    assert DelfModel.from_pretrained(target).config.fingerprint == model.config.fingerprint


CLASSIFY = """
[[stage]]
kind = "classification"
steps = {steps}
batch = 2
side = 72
crop = 64
optimizer = "sgd"
precision = "float32"
"""


@pytest.fixture
def held(half_size: Path) -> list[LabelledPhoto]:
    """Four classes that no training sees, of two photos each: a thing, and a part of it."""
    return [LabelledPhoto(path, name, "holdout") for name in ("cat", "cell", "coins", "gravel")
            for path in (half_size / f"{name}.jpg", half_size.parent / f"{half_size.name}-parts" / f"{name}.jpg")]


@pytest.fixture(autouse=True, scope="module")
def parts(half_size: Path) -> None:
    """The parts, beside the folder of photos, which is not to be changed."""
    folder = half_size.parent / f"{half_size.name}-parts"
    folder.mkdir(exist_ok=True)
    for name in ("cat", "cell", "coins", "gravel"):
        with Image.open(half_size / f"{name}.jpg") as image:
            image.crop((image.width // 8, 0, image.width, image.height)).save(folder / f"{name}.jpg", quality=92)


def sentences(reports: list[Report]) -> list[str]:
    return [report.sentence for report in reports if report.sentence]


def test_every_stage_is_measured_and_starts_from_what_it_needs(
        labelled: list[LabelledPhoto], held: list[LabelledPhoto], trunk_file: Path, tmp_path: Path,
        correspondences: Correspondences) -> None:
    """Classification leaves no PCA, though mAP needs one, and correspondences start from one."""
    match = "[[stage]]\nkind = 'correspondences'\nsteps = 1\nbatch = 2\nviews = {side = 128}\n"
    text = CLASSIFY.format(steps=2) * 2 + match + "[finish]\nphotos = 3\ndimensions = 16\n"
    reports: list[Report] = []
    train_model(recipe(tmp_path, text), [*labelled, *held[:4]], tmp_path / "m.safetensors", start=trunk_file,
                correspondences=correspondences, report=reports.append)
    told = [sentence for sentence in sentences(reports) if "mAP" in sentence]
    assert [sentence.partition(":")[0] for sentence in told] == [
        f"mAP on 2 held-out classes after {stage}"
        for stage in ("1-classification", "2-classification", "3-correspondences")]
    assert all(0 < float(sentence.rpartition(" ")[2]) <= 100 for sentence in told)
    assert (tmp_path / "m.run" / "start-3.safetensors").is_file()
    assert "there are fewer than four held-out classes, so the probability is not calibrated" in sentences(reports)


def test_other_photos_than_those_of_the_checkpoints_are_refused(labelled: list[LabelledPhoto], trunk_file: Path,
                                                                half_size: Path, tmp_path: Path) -> None:
    plan = recipe(tmp_path, CLASSIFY.format(steps=1) + "[finish]\nphotos = 2\ndimensions = 8\n")
    target = tmp_path / "m.safetensors"
    train_model(plan, labelled, target, start=trunk_file, validate=False)
    listed = tmp_path / "m.run" / "photos.csv"
    before = listed.read_bytes()
    more = [*labelled, LabelledPhoto(half_size / "cat.jpg", "cup")]
    with pytest.raises(DelfError, match=rf"m\.run has checkpoints of other photos.*go on with '--data {listed}'"):
        train_model(plan, more, target, start=trunk_file, validate=False)
    assert listed.read_bytes() == before
    train_model(plan, read_photos(listed), target, start=trunk_file, validate=False)


def test_two_trainings_do_not_share_the_folder_of_a_run(trunk_file: Path, tmp_path: Path) -> None:
    plan, run = recipe(tmp_path, CLASSIFY.format(steps=1)), tmp_path / "m.run"
    run.mkdir()
    with locked_folder(run), pytest.raises(DelfError, match=r"another process is working on .*m\.run"):
        train_model(plan, [], tmp_path / "m.safetensors", start=trunk_file)
    assert list(run.iterdir()) == []


def test_a_model_is_finished_anew_without_training(labelled: list[LabelledPhoto], held: list[LabelledPhoto],
                                                   packaged: DelfModel, half_size: Path, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """`finish` keeps the descriptors, and fits the probability on half of the held-out classes."""
    used: dict[str, set[str]] = {}
    monkeypatch.setattr("delf.training.calibration.fit", lambda samples, ridge: used.setdefault(
        "fitted", set(samples.labels)) and fit(samples, ridge))
    monkeypatch.setattr("delf.training.calibration.reliability", lambda samples, weights: used.setdefault(
        "judged", set(samples.labels)) and reliability(samples, weights))
    plan = replace(Recipe.read("finish"), finish=replace(Recipe.read("finish").finish, photos=3))
    train_model(plan, [*labelled, *held], tmp_path / "m.safetensors", start=PACKAGED / "delf-r18.safetensors")
    assert used == {"fitted": {"cat", "coins"}, "judged": {"cell", "gravel"}}
    model = DelfModel.from_pretrained(tmp_path / "m.safetensors")
    assert set(model.config.probability) == {*EVIDENCE, "intercept"}
    assert model.config.probability != packaged.config.probability
    rows = read_reliability(tmp_path / "m.run" / "reliability.csv")
    assert sum(count for *_, count in rows) >= 20
    assert all(0 <= mean <= 1 and 0 <= share <= 1 for mean, share, _ in rows)
    image = read_image(half_size / "cat.jpg")
    new, old = (Delf.load(path, runtime="torch", score_threshold=-np.inf, threads=1).extract(image)
                for path in (tmp_path / "m.safetensors", PACKAGED / "delf-r18.safetensors"))
    np.testing.assert_array_equal(new.keypoints, old.keypoints)
    np.testing.assert_array_equal(new.descriptors, old.descriptors)
    assert model.config.fingerprint == packaged.config.fingerprint
    assert (model.config.about, model.config.licence) == (packaged.config.about, packaged.config.licence) != ("", "")


def test_a_model_is_calibrated_where_it_lies(labelled: list[LabelledPhoto], held: list[LabelledPhoto],
                                             tmp_path: Path) -> None:
    """Its words count as well, and nothing but the weights of its probability changes, and what is asked for."""
    for suffix in (".safetensors", ".onnx", "-int8.onnx", ".words"):
        shutil.copy(PACKAGED / f"delf-r18{suffix}", tmp_path / f"m{suffix}")
    write_photos([*labelled, *held], tmp_path / "photos.csv")
    command = ["calibrate", f"{tmp_path}/m.safetensors", "--data", f"{tmp_path}/photos.csv", "--threads", "1",
               "--eight-bit", "--border", "12"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert re.search(r"\d% sure: +\d+% of \d+ answer", done.stdout)
    files = [PACKAGED / "delf-r18.safetensors", tmp_path / "m.safetensors"]
    old, new = (DelfModel.from_pretrained(path) for path in files)
    assert new.config.fingerprint == old.config.fingerprint
    assert set(new.config.probability_by_words) == {*BY_WORDS, DETAILS, "intercept"}
    assert set(new.config.probability) == {*EVIDENCE, DETAILS, "intercept"}
    assert new.config.probability != old.config.probability
    assert new.config.extraction == {**old.config.extraction, "border": 12.0}
    assert all(Delf.load(tmp_path / name).runtime.config == new.config for name in ("m.onnx", "m-int8.onnx"))
    names = old.state_dict().keys()
    assert all(old.state_dict()[name].equal(new.state_dict()[name]) for name in names)
    write_photos([*labelled, *held[:2]], tmp_path / "photos.csv")
    few = CliRunner().invoke(app, [*command, "--run", f"{tmp_path}/other"])
    assert "fewer than four held-out classes" in str(few.exception)


def test_a_recipe_says_which_photos_are_used(tmp_path: Path) -> None:
    plan = recipe(tmp_path, "[photos]\nminimum = 5\nmaximum = 100\nholdout = 0.2\n")
    assert plan.photos == SplitOptions(minimum=5, maximum=100, holdout=0.2)


def test_each_process_of_a_machine_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_device("cuda") == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [own_device(device) for device in ("cuda", "cuda:3", "cpu")] == ["cuda:1", "cuda:3", "cpu"]


def test_a_recipe_of_correspondences_needs_them(labelled: list[LabelledPhoto], trunk_file: Path,
                                                tmp_path: Path) -> None:
    with pytest.raises(DelfError, match="give them with --pairs"):
        train_model(recipe(tmp_path), labelled, tmp_path / "m.safetensors", start=trunk_file, validate=False)


def test_no_photo_can_be_read(trunk_file: Path, tmp_path: Path) -> None:
    gone = [LabelledPhoto(tmp_path / f"{name}.jpg", name) for name in "ab"]
    reports: list[Report] = []
    with pytest.raises(DelfError, match="none of the training photos can be read"):
        train_model(recipe(tmp_path), gone, tmp_path / "m.safetensors", start=trunk_file, report=reports.append)
    assert ["a.jpg" in reports[0].sentence, "b.jpg" in reports[1].sentence] == [True, True]


@pytest.mark.parametrize(("text", "words"), [
    ("[model]\ntrunk = 'vgg'", "unknown trunk 'vgg'"), ("[[stage]]\nkind = 'magic'", "a stage is one of"),
    ("[[stage]]\nkind = 'attention'\nstep = 3", "no option 'step'"), ("[extra]\na = 1", "a table 'extra'"),
    ("[[stage]]\nkind = 'attention'\nsteps = 0", "steps and batch are 1 or more"),
    ("[model", "cannot be read as a recipe"),
    ("[[stage]]\nkind = 'attention'\nsteps = 'many'", "makes no sense"), ("[[stage]]\nkind='joint'\nkeep=2", "keep is"),
    ("[[stage]]\nkind='distillation'\nscales='0.25'", "scales is tuple, a list"),
    ("[finish]\nprojection = 'both'", "'pca', 'keep' or 'fixed'"), ("stage = 3", "makes no sense"),
    ("[photos]\nminimum = 0", "minimum is 1 or more"),
])
def test_recipes_that_make_no_sense(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DelfError, match=words):
        recipe(tmp_path, text)


def test_unknown_recipes_are_told_the_known_ones() -> None:
    with pytest.raises(DelfError, match=r"packaged ones are .*paper"):
        Recipe.read("nothing")


def test_starting_weights(tmp_path: Path, trunk_file: Path) -> None:
    resnet18 = Recipe(ModelConfig(name="r18"), ())
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ModelError, match=r"text\.safetensors.*cannot be read as a safetensors file"):
        starting_model(tmp_path / "text.safetensors", resnet18)
    with pytest.raises(ModelError, match=r"there is no model .*nowhere': give a packaged name \(delf-lite, .*delf-r18"):
        starting_model(tmp_path / "nowhere", resnet18)
    assert starting_model(Path("delf-r18"), resnet18).config.attention, "a packaged name will do"
    torch.save({"state_dict": {f"module.{key}": value for key, value in load_file(trunk_file).items()}},
               tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    wrapped, bare = (starting_model(path, resnet18).trunk.state_dict() for path in (tmp_path / "old.pth", trunk_file))
    assert all(torch.equal(wrapped[key], bare[key]) for key in bare if not key.endswith("tracked"))
    with pytest.raises(ModelError, match="do not fit the trunk"):
        starting_model(trunk_file, Recipe(ModelConfig(name="r50", trunk="resnet50"), ()))
    assert starting_model(trunk_file, resnet18).pca is None
    assert starting_model(PACKAGED / "delf-r18.safetensors", resnet18).pca is not None
    for name in ("paper", "joint"):
        stages = Recipe.read(name)
        if stages.model.trunk == "resnet18":
            assert starting_model(PACKAGED / "delf-r18.safetensors", stages).config.attention
        else:
            with pytest.raises(ModelError, match="is a resnet18 of stride 16, and the recipe trains a resnet50 of "
                                                 "stride 32"):
                starting_model(PACKAGED / "delf-r18.safetensors", stages)


def test_averages_begin_and_end_at_the_two_models(packaged: DelfModel,
                                                  weights: Callable[[DelfModel], dict[str, torch.Tensor]]) -> None:
    torch.manual_seed(1)
    other = DelfModel(packaged.config, packaged.pca).eval()
    for share in (0.0, 0.25, 1.0):
        mixed = weights(kept(packaged, other, share))
        for key, tensor in weights(other).items():
            expected = (1 - share) * weights(packaged)[key] + share * tensor
            torch.testing.assert_close(mixed[key], expected, rtol=1e-4, atol=1e-5, msg=key)


# --- pairs, validation, calibration


@pytest.fixture
def views(half_size: Path, tmp_path: Path) -> list[LabelledPhoto]:
    """Three things, each also as a crop and darker."""
    listed = []
    for name in ("astronaut", "coffee", "rocket"):
        (tmp_path / name).mkdir()
        with Image.open(half_size / f"{name}.jpg") as image:
            width, height = image.size
            image.save(tmp_path / name / "0.png")
            image.crop((width // 10, height // 12, width, height)).save(tmp_path / name / "1.png")
            image.point(lambda value: value * 0.7).resize((width * 3 // 4, height * 3 // 4)).save(
                tmp_path / name / "2.png")
        listed += [LabelledPhoto(tmp_path / name / f"{i}.png", name) for i in range(3)]
    return listed


def test_pairs_are_found_in_a_class(views: list[LabelledPhoto], extractor: Delf, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "damaged.jpg").write_bytes(b"nothing")
    sentences: list[str] = []
    photos = [*views, LabelledPhoto(tmp_path / "damaged.jpg", "rocket")]
    found = make_correspondences(photos, extractor, PairOptions(points=30), report=sentences.append)
    assert ["damaged.jpg" in sentence for sentence in sentences] == [True]
    assert len(found.pairs) >= 6
    for pair, (one, other) in enumerate(found.pairs):
        assert photos[one].label == photos[other].label
        points = found.matches(pair)
        assert 24 <= len(points) <= 30 or len(points) >= 24
        if photos[one].path.name == "0.png" and photos[other].path.name == "1.png":
            shift = np.median(points[:, :2] - points[:, 2:], axis=0)
            with Image.open(photos[one].path) as image:
                np.testing.assert_allclose(shift, (image.width // 10, image.height // 12), atol=3)
    found.write(tmp_path / "pairs.npz", tmp_path)
    assert np.array_equal(Correspondences.read(tmp_path / "pairs.npz", tmp_path).pairs, found.pairs)
    with Collection.create(tmp_path / "views.delf", extractor) as collection:
        collection.add([photo.path for photo in views])
        with monkeypatch.context() as patch:
            patch.setattr("delf.training.pairs.read_image", None)  # nothing is read again
            known = make_correspondences(views, extractor, PairOptions(points=30), collection=collection)
    assert np.array_equal(known.pairs, found.pairs)
    few = make_correspondences(photos, extractor, PairOptions(per_photo=1))
    assert max(np.bincount(few.pairs.ravel())) == 1


def test_no_pairs(half_size: Path, extractor: Delf) -> None:
    unlike = [LabelledPhoto(half_size / f"{name}.jpg", "all") for name in ("astronaut", "coffee")]
    with pytest.raises(DelfError, match="could be verified"):
        make_correspondences(unlike, extractor)


def test_retrieval_is_measured(views: list[LabelledPhoto], extractor: Delf) -> None:
    options = RetrievalOptions(every=1, neighbours=10)
    assert retrieval_map(extractor, views, options) == pytest.approx(1.0)
    shuffled = [replace(photo, label=views[(3 * i + i // 3) % 9].label) for i, photo in enumerate(views)]
    assert retrieval_map(extractor, shuffled, options) < 0.9


def test_the_probability_is_fitted() -> None:
    rng = np.random.default_rng(0)
    evidence = rng.uniform(0, 1, size=(20000, len(EVIDENCE))) * [5, 1, 1, 1, 4]
    truth = {"inliers": 3.0, "share": 2.0, "area": 0.0, "similarity": 1.0, "images": -0.5}
    logits = evidence @ [truth[name] for name in EVIDENCE] - 8.0
    labels = np.where(np.arange(20000) % 2, "odd", "even")
    samples = Samples(evidence, rng.random(20000) < 1 / (1 + np.exp(-logits)), labels)
    weights = fit(samples, ridge=1e-6)
    assert weights["intercept"] == pytest.approx(-8, abs=0.5)
    assert [weights[name] for name in EVIDENCE] == pytest.approx([truth[name] for name in EVIDENCE], abs=0.35)
    for mean, share, count in reliability(samples, weights):
        assert share == pytest.approx(mean, abs=4 * (0.25 / count) ** 0.5)
    assert len(samples.of(["odd"])) == 10000
    assert fit(samples.of(["neither"])) == {}
    reverse = Samples(evidence, ~samples.right, labels)
    assert all(fit(reverse)[name] == 0 for name in ("inliers", "share"))
    assert probability(dict(zip(EVIDENCE, evidence[0], strict=True)), weights) == pytest.approx(
        1 / (1 + np.exp(-logits[0])), abs=0.1)
