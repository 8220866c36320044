"""What the import of weights gives, and what may be said about it by whoever imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from delf.models import PCA, ModelConfig, Whitening
from delf.settings import Options
from delf.types import FloatArray


@dataclass(frozen=True, eq=False)
class ImportedModel:
    """What the files of a model are made of (`DelfModel.from_arrays`). arrays: weights by their names there."""

    config: ModelConfig
    arrays: Mapping[str, FloatArray]
    pca: PCA
    whitening: Whitening | None = None


@dataclass(frozen=True)
class ImportOptions(Options):
    """What a checkpoint does not say by itself.

    config: the `DelfConfig` with which a model of TensorFlow is used.
    stride: of the cells of a Keras model, which only its graph contains.
    pca: the file of a PCA (nashory).
    whitening: the name of a whitening in a checkpoint of cirtorch or DIR; "" for none, None for the usual one.
    whitening_power: the power of DIR's variances; its authors evaluate with a quarter.
    """

    config: Path | None = None
    stride: int = 32
    pca: Path | None = None
    whitening: str | None = None
    whitening_power: float = 0.25
