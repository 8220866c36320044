"""The convolutions of a trunk by their names, for checkpoints that have the same ones under other names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from delf.models import PCA, TrunkLayout, resnet_layout

Shape = tuple[int, ...]
NORMS = ("weight", "bias", "running_mean", "running_var")


class Convolution(NamedTuple):
    """A convolution and the batch norm behind it, by torchvision's names. shape: (outputs, inputs, height, width)."""

    name: str
    norm: str
    shape: tuple[int, int, int, int]


def convolutions(trunk: str, *, conv5: bool = False) -> Iterator[Convolution]:
    """The convolutions of a trunk (a ResNet of `delf.models.TRUNKS`), from the image on. conv5: with those of conv5."""
    layout = resnet_layout(trunk)
    yield Convolution("conv1", "bn1", (layout.width, 3, 7, 7))
    channels = layout.width
    for stage, units in enumerate(layout.units[: layout.stages + conv5]):
        for unit in range(units):
            yield from _of_unit(layout, f"layer{stage + 1}.{unit}", channels, layout.width * 2**stage)
            channels = layout.width * 2**stage * (4 if layout.bottleneck else 1)


def _of_unit(layout: TrunkLayout, name: str, inputs: int, width: int) -> Iterator[Convolution]:
    outputs = width * (4 if layout.bottleneck else 1)
    if inputs != outputs:
        yield Convolution(f"{name}.downsample.0", f"{name}.downsample.1", (outputs, inputs, 1, 1))
    kernels = ((1, inputs, width), (3, width, width), (1, width, outputs)) if layout.bottleneck else (
        (3, inputs, width), (3, width, width))
    for number, (side, before, after) in enumerate(kernels, start=1):
        yield Convolution(f"{name}.conv{number}", f"{name}.bn{number}", (after, before, side, side))


def torch_variables(trunk: str, rename: Callable[[str], str] = str, *,
                    conv5: bool = False) -> Iterator[tuple[str, str, Shape]]:
    """The name of each array in `DelfModel`, that in a checkpoint of torch, and its shape.

    rename: a name of torchvision -> that of the checkpoint.
    """
    for conv, norm, shape in convolutions(trunk, conv5=conv5):
        yield f"trunk.{conv}.weight", rename(f"{conv}.weight"), shape
        for what in NORMS:
            yield f"trunk.{norm}.{what}", rename(f"{norm}.{what}"), shape[:1]


def no_pca(channels: int) -> PCA:
    """What leaves features as they are, where a model comes without a PCA."""
    return PCA(np.zeros(channels, np.float32), np.eye(channels, dtype=np.float32), np.ones(channels, np.float32))


def is_no_pca(pca: PCA) -> bool:
    """Whether a PCA is what `no_pca` gives."""
    return pca.components.shape == (len(pca.mean), len(pca.mean)) and not pca.mean.any() and bool(
        (pca.components == np.eye(len(pca.mean))).all())
