"""DELF and DELG of TensorFlow 2: a SavedModel, or a checkpoint, of the Keras code in `research/delf`.

Its network (`resnet50.py`, `delf_model.py`, `delg_model.py`) differs from TF-Slim's: convolutions have a bias, batch
norms an epsilon of 1e-3, the first convolution of a unit the stride, conv1 the padding SAME and the maximum none.
Variables are known by the attributes that lead to them, such as `model/backbone/l4a/conv2b/kernel`, or by their own
names, such as `res4a_branch2b/kernel`. ResNet-101 has more units by the same names (`l4a` to `l4w`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from delf.errors import ModelError
from delf.models import TRUNKS
from delf.types import FloatArray
from delf.weights.bundle import Bundle
from delf.weights.trunk import Convolution, Shape, convolutions

HIDDEN = 512  # channels of the attention
_EPSILON, _OURS = 1e-3, 1e-5  # of batch norms there and here
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_NORMS = (("weight", "gamma"), ("bias", "beta"), ("running_mean", "moving_mean"), ("running_var", "moving_variance"))
_UNITS = "abcdefghijklmnopqrstuvw"


def prefix_of(bundle: Bundle) -> str | None:
    """What stands in front of the attributes of the model; None where it is no such model. Names have "" in front."""
    for name in bundle.entries:
        if name.endswith(f"backbone/conv1/kernel{_SUFFIX}"):
            return name.removesuffix(f"backbone/conv1/kernel{_SUFFIX}")
    return "" if "res2a_branch2a/kernel" in bundle.entries else None


class KerasVariables:
    """The variables of a model by what they are, under either kind of names.

    trunk: a key of `delf.models.TRUNKS`. embedding: channels of the global descriptor, 0 where there is none.
    autoencoder: channels between its two layers, 0 where there is none.
    """

    def __init__(self, bundle: Bundle, prefix: str) -> None:
        self._bundle, self._prefix = bundle, prefix
        self._by_attributes = any(name.endswith(_SUFFIX) for name in bundle.entries)
        deep = self._name("backbone/l4w/conv2a", "res4w_branch2a", "kernel") in bundle.entries
        self.trunk = "keras101" if deep else "keras50"
        self.embedding = self._length("backbone/embedding_layer", "embedding_layer")
        self.autoencoder = self._length("autoencoder/conv1", "autoencoder/autoenc_conv1")

    def arrays(self, *, conv5: bool) -> dict[str, FloatArray]:
        """Weights by their names in `DelfModel`, with biases and epsilons brought into the batch norms.

        Raises:
            ModelError: some are missing, misshapen or damaged.
        """
        made = dict(self._trunk(conv5))
        channels = TRUNKS[self.trunk].channels
        attention = Convolution("conv1", "bn1", (HIDDEN, channels, 1, 1))
        made |= self._normed("attention", attention, ("attention/conv1", "attention/attn_conv1"),
                             ("attention/bn_conv1", "attention/bn_conv1"))
        made |= self._plain("attention.conv2", ("attention/conv2", "attention/attn_conv2"), (1, HIDDEN, 1, 1))
        if self.autoencoder:
            made |= self._autoencoder(channels)
        if conv5:
            kernel, bias = (self._read("backbone/embedding_layer", "embedding_layer", what, shape) for what, shape in
                            (("kernel", (2 * channels, self.embedding)), ("bias", (self.embedding,))))
            made |= {"global_layer.weight": np.ascontiguousarray(kernel.T), "global_layer.bias": bias,
                     "pooling.p": np.full((), 3.0, np.float32)}
        return made

    def _trunk(self, conv5: bool) -> Iterator[tuple[str, FloatArray]]:
        for one in convolutions(self.trunk, conv5=conv5):
            yield from self._normed("trunk", one, *_called(one.name)).items()

    def _normed(self, ours: str, one: Convolution, conv: tuple[str, str], norm: tuple[str, str]
                ) -> dict[str, FloatArray]:
        kernel, bias = self._kernel(conv, one.shape)
        made = {f"{ours}.{one.name}.weight": kernel}
        for own, other in _NORMS:
            made[f"{ours}.{one.norm}.{own}"] = self._read(*norm, other, one.shape[:1])
        variances = made[f"{ours}.{one.norm}.running_var"]
        if variances.min() < 0:
            raise ModelError(f"the variances of {norm[not self._by_attributes]!r} in {str(self._bundle.index)!r} are "
                             "below 0: they are damaged; get the files again")
        made[f"{ours}.{one.norm}.running_mean"] = made[f"{ours}.{one.norm}.running_mean"] - bias
        made[f"{ours}.{one.norm}.running_var"] = variances + np.float32(_EPSILON - _OURS)
        return made

    def _plain(self, ours: str, theirs: tuple[str, str], shape: tuple[int, int, int, int]) -> dict[str, FloatArray]:
        kernel, bias = self._kernel(theirs, shape)
        return {f"{ours}.weight": kernel, f"{ours}.bias": bias}

    def _autoencoder(self, channels: int) -> dict[str, FloatArray]:
        """The local descriptor is the middle of the autoencoder, bias and all; attention sees its end, where that bias
        is brought into the one of the second layer.
        """
        narrow = self._plain("projection.conv", ("autoencoder/conv1", "autoencoder/autoenc_conv1"),
                             (self.autoencoder, channels, 1, 1))
        wide = self._plain("autoencoder.decoder", ("autoencoder/conv2", "autoencoder/autoenc_conv2"),
                           (channels, self.autoencoder, 1, 1))
        shift = wide["autoencoder.decoder.weight"][:, :, 0, 0] @ narrow["projection.conv.bias"]
        return {**narrow, **wide, "autoencoder.encoder.weight": narrow["projection.conv.weight"],
                "autoencoder.decoder.bias": wide["autoencoder.decoder.bias"] + shift}

    def _kernel(self, theirs: tuple[str, str], shape: tuple[int, int, int, int]) -> tuple[FloatArray, FloatArray]:
        """A kernel (outputs, inputs, height, width), stored the other way round, and its bias."""
        outputs, inputs, height, width = shape
        kernel = self._read(*theirs, "kernel", (height, width, inputs, outputs))
        return np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), self._read(*theirs, "bias", (outputs,))

    def _read(self, attributes: str, name: str, what: str, shape: Shape) -> FloatArray:
        return self._bundle.read(self._name(attributes, name, what), shape)

    def _length(self, attributes: str, name: str) -> int:
        entry = self._bundle.entries.get(self._name(attributes, name, "bias"))
        return entry.shape[0] if entry is not None and len(entry.shape) == 1 else 0

    def _name(self, attributes: str, name: str, what: str) -> str:
        if self._by_attributes:
            return f"{self._prefix}{attributes}/{what}{_SUFFIX}"
        for root in ("", "DELF/", "DELG/"):  # subclassed models put theirs in front of some
            if f"{root}{name}/{what}" in self._bundle.entries:
                return f"{root}{name}/{what}"
        return f"{name}/{what}"


def _called(name: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """The name of torchvision of a convolution -> that of it and of its batch norm there, by attributes and by name."""
    if name == "conv1":
        return ("backbone/conv1", "conv1"), ("backbone/bn_conv1", "bn_conv1")
    stage, unit, which = name.removeprefix("layer").split(".")[:3]
    block = f"{int(stage) + 1}{_UNITS[int(unit)]}"
    branch = "1" if which == "downsample" else f"2{'abc'[int(which[-1]) - 1]}"
    inner = ("conv_shortcut", "bn_shortcut") if which == "downsample" else (f"conv{branch}", f"bn{branch}")
    return ((f"backbone/l{block}/{inner[0]}", f"res{block}_branch{branch}"),
            (f"backbone/l{block}/{inner[1]}", f"bn{block}_branch{branch}"))
