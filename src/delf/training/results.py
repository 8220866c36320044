"""What a stage of training has made of a model."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import torch

from delf.network.model import DelfModel
from delf.network.resnet import fold_batch_norm, unfold_batch_norm
from delf.training.attention import AttentionStage
from delf.training.describer import Describer
from delf.training.distillation import DistillationStage
from delf.training.joint import JointStage


def result_of(stage: Any, options: Any, model: DelfModel) -> DelfModel:
    """The model as a stage with these options has left it."""
    if isinstance(stage, JointStage):
        return stage.result(model)
    if isinstance(stage, AttentionStage | DistillationStage):
        config = dataclasses.replace(model.config, attention=True, attention_hidden=options.hidden,
                                     attention_batch_norm=False)
        if isinstance(stage, DistillationStage):
            taught = stage.teacher.config
            config = dataclasses.replace(config, space=taught.space or taught.fingerprint)
        result = DelfModel(config, model.pca)
        result.load_state_dict(model.state_dict(), strict=False)
        result.attention = copy.deepcopy(stage.module.attention)
        if isinstance(stage, DistillationStage):
            result.trunk, result.pca = copy.deepcopy(stage.module.trunk), stage.module.pca()
        return result.eval()
    result = DelfModel(dataclasses.replace(model.config, space=""), model.pca)  # which descriptors have left
    result.load_state_dict(model.state_dict())
    result.trunk.load_state_dict(unfold_batch_norm(stage.module.trunk), strict=False)
    if isinstance(stage.module, Describer):
        result.pca = stage.module.pca()
    else:
        result.pca = None  # another trunk needs another PCA
    return result.eval()


def kept(before: DelfModel, after: DelfModel, share: float) -> DelfModel:
    """`after`, with the folded weights of its trunk averaged: `share` of them, and the rest of those before."""
    if share == 1 or after.trunk.frozen:
        return after
    folded, ends = fold_batch_norm(before.trunk), fold_batch_norm(after.trunk).state_dict()
    folded.load_state_dict({key: torch.lerp(tensor, ends[key], share) for key, tensor in folded.state_dict().items()})
    result = copy.deepcopy(after)
    result.trunk.load_state_dict(unfold_batch_norm(folded), strict=False)
    return result
