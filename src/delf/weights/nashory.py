"""DELF in PyTorch by nashory (github.com/nashory/DeLF-pytorch).

A checkpoint holds the state of each part by its name: `base`, the children of torchvision's network in a row up to
conv4, and `attn`, two convolutions. The PCA is a file of HDF5 beside it (`pca.h5`: `pca_mean`, `pca_vars`,
`pca_matrix`), with whose variances it whitens. Colours are from 0 to 1, and nothing is subtracted.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import ModelError, missing_dependency
from delf.formats.files import require_file
from delf.models import PCA, TRUNKS, ModelConfig
from delf.types import FloatArray
from delf.weights.checkpoint import Checkpoint
from delf.weights.cirtorch import in_a_row
from delf.weights.imported import ImportedModel, ImportOptions
from delf.weights.torchvision import trunk_of
from delf.weights.trunk import no_pca, torch_variables

_HIDDEN, _DIMENSIONS = 512, 40
# Of its extract/extractor.py.
_EXTRACTION = {"scales": [0.25, 0.3535, 0.5, 0.7071, 1.0, 1.4142, 2.0], "score_threshold": 0.17, "max_features": 1000,
               "suppression_iou": 0.98, "max_image_size": None, "length_weight": 0.0, "texture": 0.0, "border": 0.0}


def fits(checkpoint: Checkpoint) -> bool:
    """Whether it is one."""
    return {"base.0.weight", "attn.conv1.weight"} <= checkpoint.shapes.keys()


def read(checkpoint: Checkpoint, options: ImportOptions, name: str) -> ImportedModel:
    """A model with the trunk, the attention, and the PCA, if one is given; else features keep all their channels.

    Raises:
        ModelError: weights are missing or misshapen; the PCA is damaged, or of another model.
    """
    trunk = trunk_of(checkpoint, ("base.4", "base.5", "base.6"))
    channels = TRUNKS[trunk].channels
    variables = [*torch_variables(trunk, lambda one: in_a_row(one, "base.")),
                 ("attention.conv1.weight", "attn.conv1.weight", (_HIDDEN, channels, 1, 1)),
                 ("attention.conv1.bias", "attn.conv1.bias", (_HIDDEN,)),
                 ("attention.conv2.weight", "attn.conv2.weight", (1, _HIDDEN, 1, 1)),
                 ("attention.conv2.bias", "attn.conv2.bias", (1,))]
    pca = no_pca(channels) if options.pca is None else _read_pca(options.pca, channels)
    reduced = {"dimensions": channels, "whitening": False} if options.pca is None else {
        "dimensions": min(_DIMENSIONS, len(pca.components)), "whitening": True}
    config = ModelConfig(
        name, trunk=trunk, precision="single", attention=True, attention_hidden=_HIDDEN, attention_batch_norm=False,
        mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0), resize="bilinear", extraction={**_EXTRACTION, **reduced},
        about=f"Imported from {checkpoint.path.name!r}: DELF in PyTorch, in the layout of nashory ({trunk}).")
    return ImportedModel(config, checkpoint.read_all(variables), pca)


def _read_pca(path: Path, channels: int) -> PCA:
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise missing_dependency("h5py", "h5", "a PCA in HDF5") from error
    require_file(path)
    try:
        with h5py.File(path, "r") as file:
            mean, variances, matrix = (_dataset(file, name, most) for name, most in (
                ("pca_mean", channels), ("pca_vars", channels), ("pca_matrix", channels**2)))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{str(path)!r} cannot be read as a PCA in HDF5 ({str(error)[:200]}): it holds pca_mean, "
                         "pca_vars and pca_matrix; get it again") from error
    pca = PCA(mean.ravel(), np.ascontiguousarray(matrix), variances.ravel())
    pca.require_channels(channels, path)
    if not len(variances) or variances.min() < 0:
        raise ModelError(f"{str(path)!r} has variances below 0, by whose roots whitening divides; get the right file")
    return pca


def _dataset(file: Any, name: str, most: int) -> FloatArray:
    found = file[name]
    if int(np.prod(found.shape, dtype=object)) > most:
        raise ValueError(f"{name} has the shape {found.shape}, which is of a larger model")
    return np.asarray(found, np.float32)
