"""Recipes: from ImageNet weights and photos to one finished model file, stage by stage.

A recipe is a small TOML file: `[model]` says what the model is, `[photos]` which of the photos are used and how they
are split, each `[[stage]]` what is trained and how, `[finish]` how the PCA is learnt. `paper` and `cpu` come with the
package. A stage has the options of the loop (`engine.LoopOptions`) and its own beside each other.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from delf.errors import DelfError, ModelError, OptionError
from delf.files import locked_folder, write_atomically
from delf.models import ModelConfig
from delf.network.model import DelfModel
from delf.network.own import GivenTrunk, TrunkOptions, configured, digest_of
from delf.network.trunks import known
from delf.settings import fitted
from delf.training.attention import AttentionOptions, AttentionStage
from delf.training.calibration import calibrate, write_reliability
from delf.training.classification import ClassificationOptions, ClassificationStage
from delf.training.correspondences import CorrespondenceOptions, Correspondences, CorrespondenceStage
from delf.training.distillation import DistillationOptions, DistillationStage
from delf.training.engine import LoopOptions, Part, Progress, TrainingError, run_stage
from delf.training.extraction import extractor_of
from delf.training.finish import FinishOptions, finish
from delf.training.joint import JointOptions, JointStage
from delf.training.photos import LabelledPhoto, PhotoCache, SplitOptions, of_split, read_photos, readable, write_photos
from delf.training.results import kept, result_of
from delf.training.validation import retrieval_map
from delf.training.whitening import WhiteningOptions, learn_whitening
from delf.weights import Checkpoint
from delf.weights.trunk import is_no_pca

PATIENCE = timedelta(hours=12)
PHOTOS_TO_VALIDATE = 60
RECIPES = Path(__file__).parent / "recipes"
STAGES: dict[str, type] = {"classification": ClassificationOptions, "attention": AttentionOptions,
                           "joint": JointOptions, "correspondences": CorrespondenceOptions,
                           "distillation": DistillationOptions}
BEHIND = ("attention", "correspondences")  # of them, those that can leave the trunk as it is
Options = TypeVar("Options")


@dataclass(frozen=True)
class StagePlan:
    """kind: a key of `STAGES`. options: of the stage. keep: share of the trained weights in their average with those
    before (Wortsman et al., CVPR 2022).
    """

    kind: str
    loop: LoopOptions
    options: Any
    keep: float = 1.0


@dataclass(frozen=True)
class Recipe:
    """What is trained, in order, and on which of the photos. trunk: what is said of a trunk of the user's."""

    model: ModelConfig
    stages: tuple[StagePlan, ...]
    finish: FinishOptions = field(default_factory=FinishOptions)
    photos: SplitOptions = field(default_factory=SplitOptions)
    trunk: TrunkOptions | None = None

    @classmethod
    def read(cls, name: str | Path) -> Recipe:
        """Read a recipe by the name of a packaged one or the path of a TOML file.

        Raises:
            DelfError: there is no such recipe, or it has an option that there is not.
        """
        packaged = RECIPES / f"{name}.toml"
        path = packaged if packaged.is_file() else Path(name)
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
            known = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
            raise DelfError(f"{name} cannot be read as a recipe ({error}); packaged ones are {known}") from error
        foreign = set(content) - {"model", "trunk", "photos", "stage", "finish"}
        if foreign:
            raise DelfError(f"{path} has a table {min(foreign)!r}; a recipe has [model], [trunk], [photos], "
                            "[[stage]] and [finish]")
        try:
            return cls(_options(ModelConfig, {"name": "untrained", **content.get("model", {})}),
                       tuple(_plan(table) for table in content.get("stage", [])),
                       _options(FinishOptions, content.get("finish", {})),
                       _options(SplitOptions, content.get("photos", {})),
                       _options(TrunkOptions, content["trunk"]) if "trunk" in content else None)
        except (OptionError, ModelError, DelfError, TypeError, AttributeError) as error:
            raise DelfError(f"the recipe {path} makes no sense: {error}") from error


def _plan(table: Mapping[str, Any]) -> StagePlan:
    values = dict(table)
    kind, keep = values.pop("kind", None), values.pop("keep", 1.0)
    if kind not in STAGES:
        raise OptionError(f"a stage is one of {', '.join(STAGES)}, not {kind!r}")
    if not 0 <= keep <= 1:
        raise OptionError(f"keep is a share from 0 to 1, not {keep!r}")
    loop = {f.name for f in fields(LoopOptions)}
    return StagePlan(kind, _options(LoopOptions, {key: values[key] for key in values if key in loop}),
                     _options(STAGES[kind], {key: values[key] for key in values if key not in loop}), keep)


def _options(kind: type[Options], values: Mapping[str, Any]) -> Options:
    """A dataclass from a table; tables in it are dataclasses too, and lists tuples."""
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise OptionError(f"there is no option {key!r}; known are {', '.join(known)}")
        factory: Any = known[key].default_factory
        if isinstance(value, dict) and isinstance(factory, type) and is_dataclass(factory):
            given[key] = _options(factory, value)
        else:
            given[key] = fitted(kind, key, value, key)
    return kind(**given)


@dataclass(frozen=True)
class Report:
    """What training has to say: a sentence, the progress of a stage, or mAP on the held-out classes."""

    sentence: str = ""
    progress: Progress | None = None


def train_model(recipe: Recipe, photos: Sequence[LabelledPhoto], output: Path, *, start: Path | None = None,
                trunk: GivenTrunk | None = None, correspondences: Correspondences | None = None,
                held: Correspondences | None = None, run: Path | None = None, about: str = "", licence: str = "",
                device: str = "cpu", validate: bool = True,
                report: Callable[[Report], None] = lambda _: None) -> None:
    """Run the stages of a recipe, learn the PCA, and write the model.

    Run again after an interruption, it goes on from its last checkpoint. Below `torchrun`, all processes call it, share
    each mini-batch, and the first one writes.

    Args:
        start: weights with the names of torchvision, or of the authors of a trunk, or a model of this package by its
            packaged name or its file; where the first stage distils, the model that teaches. A trunk of the user's
            needs none: it has the weights that it was made with.
        trunk: one of the user's (`delf.network.own`), in the place of that which the recipe names.
        correspondences, held: of training photos and of held-out ones, for stages of that kind.
        run: the folder of checkpoints and logs; by default `OUTPUT.run` without the suffix of the output.
        about, licence: what the model file says of itself; by default what it said before, if nothing is trained.
        validate: mAP on held-out classes after each stage.

    Raises:
        DelfError: with a sentence on what is wrong and what to do.
    """
    run, recipe = run or output.with_suffix(".run"), of_trunk(recipe, trunk)
    run.mkdir(parents=True, exist_ok=True)
    join_processes(device)
    with known(trunk), alone(run):
        torch.manual_seed(0)
        trainer = _Trainer(recipe, photos, run, correspondences, held, own_device(device), report, start)
        model = starting_model(start, recipe, trunk)
        trainer.begun = digest_of(model.trunk) if trunk is not None else ""
        for number, plan in enumerate(recipe.stages):
            model = trainer.stage(number, plan, model)
            if validate and Part.own().rank == 0:
                trainer.validate(model, f"after {number + 1}-{plan.kind}")
        if Part.own().rank == 0:
            report(Report(f"finishing the model with {recipe.finish.photos} photos"))
            finished = finish(model, trainer.paths(), recipe.finish, report=lambda text: report(Report(text)))
            if recipe.finish.whitening_photos:
                report(Report(f"learning the whitening from {recipe.finish.whitening_photos} photos"))
                finished = learn_whitening(finished, of_split(trainer.photos, "train"),
                                           WhiteningOptions(photos=recipe.finish.whitening_photos),
                                           report=lambda text: report(Report(text)))
            if not recipe.stages:  # what a model says of itself stays true where nothing is trained
                about, licence = about or model.config.about, licence or model.config.licence
            finished.config = dataclasses.replace(finished.config, about=about, licence=licence)
            finished.save_pretrained(output)
            if validate:
                finished.config = dataclasses.replace(finished.config, probability=trainer.calibrate(finished))
                finished.save_pretrained(output)
        if distributed.is_initialized():
            distributed.barrier()


def alone(run: Path) -> AbstractContextManager[None]:
    """While the block runs, no other training has the folder of a run, whose checkpoints and logs would get mixed up.
    Processes that `torchrun` has started share it.
    """
    return nullcontext() if Part.own().rank else locked_folder(run, error=TrainingError)


def join_processes(device: str) -> None:
    """Join the other processes of `torchrun`, where it started this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        # The others wait while the first one validates, learns the PCA and calibrates.
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=PATIENCE)


def own_device(device: str) -> str:
    """The device of this process: below `torchrun`, each one of a machine has a GPU of its own."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device


class _Trainer:
    def __init__(self, recipe: Recipe, photos: Sequence[LabelledPhoto], run: Path,
                 correspondences: Correspondences | None, held: Correspondences | None, device: str,
                 report: Callable[[Report], None], start: Path | None) -> None:
        self.recipe, self.run, self.report, self.device, self.start = recipe, run, report, device, start
        self.begun = ""  # the digest of a trunk of the user's, whose weights may be other ones each time
        self.cache = PhotoCache()
        self.photos, damaged = readable(photos, self.cache)
        for sentence in damaged:
            self._leave_out(sentence)
        if not of_split(self.photos, "train"):
            raise DelfError("none of the training photos can be read")
        self.correspondences, self.held = (known and known.of_readable(self.cache, self._leave_out)
                                           for known in (correspondences, held))
        self._keep_split()

    def _keep_split(self) -> None:
        """Store which photos are learnt from; refuse others than those that there are checkpoints of."""
        file = self.run / "photos.csv"
        if file.is_file() and any(self.run.glob("*/*.checkpoint")):
            stored = read_photos(file, options=SplitOptions(minimum=1))
            if [_named(photo) for photo in stored] != [_named(photo) for photo in self.photos]:
                raise DelfError(f"{self.run} has checkpoints of other photos, which are listed in its photos.csv; go "
                                f"on with '--data {file}', or delete {self.run} to begin anew")
        if Part.own().rank == 0:
            write_photos(self.photos, file)

    def _leave_out(self, sentence: str) -> None:
        self.report(Report(f"left out: {sentence}"))

    def paths(self) -> list[Path]:
        """Of the training photos."""
        return [photo.path for photo in of_split(self.photos, "train")]

    def _with_pca(self, model: DelfModel, number: int) -> DelfModel:
        """What a stage that trains the projection starts from: the PCA, where the model has none yet."""
        if model.pca is not None:
            return model
        file = self.run / ("start.safetensors" if number == 0 else f"start-{number + 1}.safetensors")
        if not file.is_file() and Part.own().rank == 0:
            self.report(Report("learning the PCA that training starts from"))
            finish(model, self.paths(), dataclasses.replace(self.recipe.finish, projection="pca")
                   ).save_pretrained(file)
        if distributed.is_initialized():
            distributed.barrier()
        return DelfModel.from_pretrained(file)

    def _identity(self, plan: StagePlan) -> str:
        """Of what a stage is and learns from, where files lie and how often it is saved left out."""
        loop = dataclasses.asdict(plan.loop)
        kept = {name: loop[name] for name in loop if name not in ("validate_every", "save_every", "precision")}
        photos = [_named(photo) for photo in self.photos]
        said = json.dumps([plan.kind, kept, dataclasses.asdict(plan.options), photos], sort_keys=True, default=str)
        return hashlib.sha256(said.encode("utf-8", "surrogateescape")).hexdigest()

    def stage(self, number: int, plan: StagePlan, model: DelfModel) -> DelfModel:
        """The model after a stage."""
        batch, seed, taught = plan.loop.batch, plan.loop.seed, self.begun
        stage: Any
        if plan.kind == "correspondences":
            if self.correspondences is None:
                raise OptionError("this recipe learns from correspondences; give them with --pairs, and make them with "
                                "'delf pairs'")
            model = self._with_pca(model, number)
            stage = CorrespondenceStage(model, self.correspondences, batch, plan.options, held=self.held,
                                        cache=self.cache, seed=seed)
        elif plan.kind == "distillation":
            teacher = DelfModel.from_pretrained(self.start or "")
            taught = teacher.config.fingerprint  # a checkpoint is of what this teacher says
            stage = DistillationStage(model, teacher, self.photos, self.cache, batch, plan.options, seed=seed)
        else:
            kind = {"classification": ClassificationStage, "attention": AttentionStage, "joint": JointStage}[plan.kind]
            stage = kind(model, self.photos, self.cache, batch, plan.options, seed=seed)
        folder = self.run / f"{number + 1}-{plan.kind}"
        run_stage(stage, plan.loop, folder, device=self.device, identity=self._identity(plan) + taught,
                  report=lambda progress: self.report(Report(progress=progress)))
        stage.module.to("cpu")
        return kept(model, result_of(stage, plan.options, model), plan.keep)

    def validate(self, model: DelfModel, when: str) -> None:
        """Report mAP on the held-out classes, once: the figure is kept beside the checkpoints.

        A model without a PCA is measured with one of few photos: its own is learnt when all stages are done.
        """
        photos = of_split(self.photos, "holdout")
        if not photos:
            return
        figure = self.run / f"map {when}.txt"
        if not figure.is_file():
            if model.pca is None:
                few = min(self.recipe.finish.photos, PHOTOS_TO_VALIDATE)
                model = finish(model, self.paths(), dataclasses.replace(self.recipe.finish, photos=few))
            found = retrieval_map(extractor_of(model, self.run, max_features=500), photos)
            write_atomically(figure, f"{found:.4f}\n".encode())
        self.report(Report(f"mAP on {len({photo.label for photo in photos})} held-out classes {when}: "
                           f"{100 * float(figure.read_text()):.1f}"))

    def calibrate(self, model: DelfModel) -> dict[str, float]:
        """The weights of the probability; how well they do is in `reliability.csv`. None where they cannot be had."""
        self.report(Report("calibrating the probability on held-out classes"))
        extractor = extractor_of(model, self.run)
        folder = self.run / f"calibration-{extractor.runtime.config.fingerprint[:12]}.delf"
        try:
            found = calibrate(extractor, self.photos, folder)
        except DelfError as error:
            self.report(Report(str(error)))
            return {}
        write_reliability(found.reliability, self.run / "reliability.csv")
        return found.probability


def _named(photo: LabelledPhoto) -> tuple[str, str, str]:
    """What a photo is, wherever the folder of photos lies."""
    return photo.path.name, photo.label, photo.split


def of_trunk(recipe: Recipe, trunk: GivenTrunk | None) -> Recipe:
    """The recipe for a trunk of the user's.

    Raises:
        DelfError: the recipe is for one, and there is none; or it trains what stays as it is.
    """
    if trunk is None:
        if recipe.trunk is not None:
            raise OptionError("this recipe is for a trunk of your own, which it describes in [trunk]; give that with "
                              "--trunk")
        return recipe
    training = [plan.kind for plan in recipe.stages if plan.kind not in BEHIND]
    if trunk.frozen and training:
        raise DelfError(f"a trunk that is an ONNX file stays as it is, and a stage {training[0]!r} would train it; "
                        f"leave the stage out: {' and '.join(BEHIND)} train what is behind such a trunk")
    return dataclasses.replace(recipe, model=configured(trunk, recipe.model))


def starting_model(path: Path | None, recipe: Recipe, trunk: GivenTrunk | None = None) -> DelfModel:
    """A model of this package as it is; one with the trunk of an ImageNet file and no PCA yet; one with a trunk of the
    user's and its weights; or an untrained one where the file is that of its teacher.

    Raises:
        ModelError: the file is missing, damaged, or of another architecture than the recipe trains.
    """
    config = recipe.model
    if recipe.stages and recipe.stages[0].kind == "distillation":
        return DelfModel(dataclasses.replace(config, attention=False)).eval()
    fresh = dataclasses.replace(config, attention=False, autoencoder=0, global_dimensions=0)
    if path is None:
        if trunk is None:
            raise ModelError("training starts from the weights of a trunk, or from a model: name its file")
        model = DelfModel(fresh)
        model.trunk.load_state_dict(trunk.state_dict())
        return model.eval()
    state = _imagenet(path)
    if state is None:
        model = DelfModel.from_pretrained(path)
        if trunk is not None and trunk.frozen and digest_of(trunk) != digest_of(model.trunk):
            raise ModelError(f"{path} has a trunk of its own, which is not that of --trunk; leave one of the two out")
        own, wanted = ((one.trunk, one.stride) for one in (model.config, config))
        if recipe.stages and own != wanted:
            raise ModelError(f"{path} is a {own[0]} of stride {own[1]}, and the recipe trains a {wanted[0]} of stride "
                             f"{wanted[1]}; start from weights of that, or say the model's trunk and stride in [model]")
        if model.pca is None or model.config.attention or not is_no_pca(model.pca):
            return model
        state = model.trunk.state_dict()  # weights of torchvision that were imported: nothing else of them was trained
    model = DelfModel(fresh)
    model.trunk.load_published(state)
    return model.eval()


def _imagenet(path: Path) -> Mapping[str, torch.Tensor] | None:
    """Weights by the names of torchvision, or of the authors of a trunk, in a file of safetensors or of torch; None
    where it is a model of this package, by its packaged name, its file, or as `find_model` takes it otherwise.
    """
    if not path.is_file() or path.suffix == ".onnx":
        return None
    checkpoint = Checkpoint(path)
    if any(name.startswith("trunk.") for name in checkpoint.shapes):
        return None
    return {name: torch.from_numpy(checkpoint.read(name, shape)) for name, shape in checkpoint.shapes.items()
            if not name.endswith("num_batches_tracked")}
