"""From ImageNet weights and labelled photos to one finished model file."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from delf.errors import ModelError
from delf.models import ModelConfig
from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm, unfold_batch_norm
from delf.training.classification import ClassificationOptions, EpochReport, fine_tune
from delf.training.finish import FinishOptions, finish
from delf.training.photos import read_manifest


def train_model(manifest: Path, output: Path, *, trunk: Path, architecture: str = "resnet18", epochs: int = 12,
                keep: float = 0.5, photos: int = 600, seed: int = 0, about: str = "", licence: str = "",
                report: Callable[[EpochReport | str], None] = lambda _: None,
                progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Fine-tune, average with the start, learn the PCA, and write the model.

    Args:
        trunk: ImageNet weights with torchvision's names. epochs: of fine-tuning; 0 leaves the ImageNet weights.
        keep: share of the fine-tuned weights in their average with those of ImageNet (Wortsman et al., CVPR 2022).
        photos: how many photos the PCA is learnt from.
        about, licence: what the model file says of itself.
    """
    torch.manual_seed(seed)
    start = imagenet_model(trunk, architecture)
    model = start
    if epochs > 0:
        options = ClassificationOptions(epochs=epochs, seed=seed)
        model = fine_tune(start, manifest, options, checkpoint=output.with_suffix(".checkpoint"), report=report)
        model = averaged(start, model, keep)
    paths = [photo.path for photo in read_manifest(manifest, "train")]
    finished = finish(model, paths, FinishOptions(photos=photos, seed=seed), report=report, progress=progress)
    finished.config = dataclasses.replace(finished.config, about=about, licence=licence)
    finished.save_pretrained(output)


def imagenet_model(trunk: Path, architecture: str = "resnet18") -> DelfModel:
    """A model with the trunk of an ImageNet file, and no PCA yet."""
    try:
        state = load_file(trunk)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{trunk} cannot be read as a safetensors file ({error})") from error
    model = DelfModel(ModelConfig(name=architecture, trunk=architecture))
    model.trunk.load_torchvision(state)
    return model.eval()


def averaged(start: DelfModel, tuned: DelfModel, keep: float) -> DelfModel:
    """The model whose folded weights are `keep` times the tuned ones plus the rest of the start's."""
    folded, ends = fold_batch_norm(start.trunk), fold_batch_norm(tuned.trunk).state_dict()
    folded.load_state_dict({key: torch.lerp(tensor, ends[key], keep) for key, tensor in folded.state_dict().items()})
    result = copy.deepcopy(tuned)
    result.trunk.load_state_dict(unfold_batch_norm(folded), strict=False)
    return result
