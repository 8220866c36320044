"""Any network that makes a map of features, as the trunk of a model: described by its user, and looked at.

What is said of it is compared with what it does (`delf.network.probing`), and what is not said is measured. The module
comes from a call or an option of the user; a model file names none, and its ONNX form needs none.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from delf.errors import DelfError, ModelError, OptionError
from delf.factories import current_folder, imported, require_taken
from delf.models import TRUNKS, ModelConfig
from delf.models.layouts import OpenLayout
from delf.network.placing import MAPS, Placing, as_map
from delf.network.probing import Found, Progress, probe
from delf.network.trunk import Trunk, load_published
from delf.settings import Options

TOLERANCE = 0.25  # of a stride: how far from what is said a cell may lie
UNSURE = 0.5  # the same where a place is not exact: convolutions may have learnt to look aside
NEAR = 0.125  # of a stride: how near to one of the usual places a cell must lie, for it to be taken for that


@dataclass(frozen=True)
class TrunkOptions(Options):
    """What is said of a network; what is not is measured. It is given normalised pictures, (B, 3, H, W) float32.

    name: what the model calls it. stride: pixels from cell to cell. channels: of the map.
    offset: the pixel of what it is given on which cell 0 is centred: 0 where layers are padded on both sides, as in
        ResNets and EfficientNets of torch; (stride - 1) / 2 where patches lie side by side, as in ConvNeXt and vision
        transformers; stride - 1 where all padding is at the end, as in TensorFlow.
    size: of what a cell describes, in pixels; by default what it sees, or three strides where that is everything.
    multiple: sides are made whole multiples of it; by default of the stride. input, output: of an ONNX file that has
        several; the latter also the key, or the number, of the map among what a module gives.
    input_layout: "nchw" or "nhwc", of an ONNX file. map_layout: "nchw", "nhwc", or "tokens", (B, T, C), of patches row
        by row. tokens: how many in front are of no patch, such as 1 for a class and further ones for registers.
    """

    name: str = "own"
    stride: int = 0
    channels: int = 0
    offset: float | None = None
    size: int = 0
    multiple: int = 0
    input: str = ""
    output: str | int = ""
    input_layout: str = "nchw"
    map_layout: str = "nchw"
    tokens: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name or self.name in TRUNKS:
            raise OptionError(f"the name of a trunk of your own is a text that no other trunk has, not {self.name!r}")
        for name in ("stride", "channels", "size", "multiple", "tokens"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= 65536:
                raise OptionError(f"the {name} of a trunk is a whole number of 0 or more, not {value!r}")
        if self.offset is not None and not (isinstance(self.offset, int | float) and abs(self.offset) <= 65536):
            raise OptionError(f"the offset of a trunk is a number of pixels, not {self.offset!r}")
        if self.input_layout not in MAPS[:2] or self.map_layout not in MAPS:
            raise OptionError(f"input_layout is {' or '.join(MAPS[:2])} and map_layout one of {', '.join(MAPS)}, not "
                              f"{self.input_layout!r} and {self.map_layout!r}")
        if self.map_layout == "tokens" and not self.stride:
            raise OptionError("tokens lie in no rows, so say the stride of the trunk, which is the side of a patch")


class GivenTrunk(Trunk):
    """A trunk that a user gives: what models call it, what was found of it, and the SHA-256 of its files by name."""

    name: str
    layout: OpenLayout
    source: Mapping[str, str] = MappingProxyType({})

    @property
    def about(self) -> str:
        """What was found of it, as the beginning of a sentence."""
        layout = self.layout
        return (f"The trunk {self.name!r} has {layout.channels} channels, and a cell every {layout.stride} pixels, "
                f"which describes {layout.size}; it is given {layout.shift} pixels of zeros in front")


class OwnTrunk(GivenTrunk):
    """A module of the user's, placed as delf has cells. In training its batch norms stay as they are, and it drops
    nothing out, as for the other trunks: a step is a function of the seed.
    """

    def __init__(self, network: nn.Module, options: TrunkOptions, placing: Placing, layout: OpenLayout) -> None:
        super().__init__()
        self.options, self.placing, self.layout, self.name = options, placing, layout, options.name
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """As `Trunk` says."""
        padded = self.placing.pad(images)
        return self.placing.cut(_map_of(self.network(padded), padded, self.options), images)

    def train(self, mode: bool = True) -> OwnTrunk:
        """As every module has it; the network itself stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        return self

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """As `Trunk.load_published`, by the names that the user's module has."""
        load_published(self.network, state)


def own_trunk(made: nn.Module | Callable[[], nn.Module], options: TrunkOptions | None = None, *,
              what: str = "the trunk", progress: Progress = lambda done, total: None) -> OwnTrunk:
    """A trunk of a module, or of what makes one; with the weights that it has.

    The module is put into evaluation mode, on the CPU, in single precision; training works on copies of it.

    Args:
        what: it is called in sentences. progress: as for `probe`, as a large network takes a while to be looked at.

    Raises:
        ModelError: it is no module, fails, or is not what `options` say; the sentence tells what was found.
    """
    options = options or TrunkOptions()
    try:
        if not isinstance(made, nn.Module):
            torch.manual_seed(0)  # so that the same call makes the same weights
        network = made if isinstance(made, nn.Module) else made()
    except DelfError:
        raise
    except Exception as error:  # someone's own code may raise anything
        raise ModelError(f"{what} could not be made: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"{what} is {type(network).__name__}, and not a module of torch (torch.nn.Module)")
    network = network.float().cpu().eval()

    def compute(images: Tensor) -> Tensor:
        return answered(lambda: _map_of(network(images), images, options), what, images)

    placing, layout = placed(compute, options, what, progress)
    return OwnTrunk(network, options, placing, layout)


def named_trunk(place: str, options: TrunkOptions | None = None, *,
                progress: Progress = lambda done, total: None) -> OwnTrunk:
    """The trunk that MODULE:FACTORY makes, a function or a class without arguments; the module may lie in the current
    folder.

    Raises:
        OptionError: there is none. ModelError: as for `own_trunk`.
    """
    what = f"the trunk {place!r}"
    if ":" not in place:
        raise OptionError(f"a trunk of your own is named as MODULE:FACTORY, or is an .onnx file, not {place!r}")
    with current_folder():
        factory = imported(what, place)
        require_taken(what, factory, {})
        return own_trunk(factory, options, what=what, progress=progress)


def placed(compute: Callable[[Tensor], Tensor], options: TrunkOptions, what: str, progress: Progress
           ) -> tuple[Placing, OpenLayout]:
    """How cells of a network come where delf has them, and what a model says of it.

    Raises:
        ModelError: what it does is not what is said of it.
    """
    try:
        found = probe(compute, stride=options.stride, multiple=options.multiple, progress=progress)
        _require_said(found, options)
        offset = _offset(found, options)
    except ModelError as error:
        raise error if what in str(error) else ModelError(f"{what} cannot be used: {error}") from error
    placing = Placing.of(found.stride, options.multiple or found.stride, offset, found.surplus)
    size = options.size or found.size or 3 * found.stride
    return placing, OpenLayout(found.channels, found.stride, size, max(1, size // 2), shift=placing.shift)


def answered(call: Callable[[], Tensor], what: str, images: Tensor) -> Tensor:
    """What a network of the user's gives for pictures; whatever it raises becomes a sentence."""
    try:
        return call()
    except ModelError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{what} fails for pictures of {images.shape[3]} x {images.shape[2]} pixels ({reason}); a "
                         "trunk takes pictures of any size whose sides are whole multiples of its stride, or of what "
                         "is said as its multiple") from error


def _map_of(output: Any, padded: Tensor, options: TrunkOptions) -> Tensor:
    """The map among what a module gives, as (B, C, h, w)."""
    key = options.output
    if isinstance(output, Sequence):
        output = dict(enumerate(output)) if len(output) > 1 else output[0]
    if isinstance(output, Mapping) and key in output:
        output = output[key]
    if not isinstance(output, Tensor):
        several = f" of {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
        raise ModelError(f"it gives a {type(output).__name__}{several} and not one map; say by its number or key which "
                         "of them is the map (output)")
    return as_map(output, options.map_layout, padded, options.stride, options.tokens)


def _require_said(found: Found, options: TrunkOptions) -> None:
    if options.stride not in (0, found.stride):
        raise ModelError(f"its cells lie {found.stride} pixels apart, and its stride was said to be {options.stride}")
    if options.channels not in (0, found.channels):
        raise ModelError(f"its map has {found.channels} channels, and was said to have {options.channels}")


def _offset(found: Found, options: TrunkOptions) -> float:
    """Where cell 0 lies: what is said, if it does lie there."""
    stride, said = found.stride, options.offset
    within = (TOLERANCE if found.exact else UNSURE) * stride
    if said is None:
        said, within = _usual(found)
    if any(abs(one - said) > within for one in found.offset):
        across, down = found.offset
        raise ModelError(f"cell i answers to what lies around pixel {stride} i {across:+.1f} across and {stride} i "
                         f"{down:+.1f} down, not around {stride} i {said:+.1f}; state the offset that is true (0 where "
                         f"layers are padded on both sides, {(stride - 1) / 2:g} for patches side by side, "
                         f"{stride - 1} for padding at the end)")
    return said


def _usual(found: Found) -> tuple[float, float]:
    """Where cell 0 lies where nothing is said, and how far from there it may: the exact place where that is known, and
    else the nearest of the three usual ones.
    """
    if found.exact:
        return found.offset[0], 1.0
    middle, stride = sum(found.offset) / 2, found.stride
    return min((0.0, (stride - 1) / 2, stride - 1.0), key=lambda usual: abs(usual - middle)), max(1.0, NEAR * stride)


def digest_of(trunk: nn.Module) -> str:
    """SHA-256 of the weights of a trunk, as it is."""
    digest = hashlib.sha256()
    for key, tensor in sorted(trunk.state_dict().items()):
        digest.update(key.encode() + b"\0" + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def configured(trunk: GivenTrunk, config: ModelConfig) -> ModelConfig:
    """The configuration of a model with this trunk."""
    layout = trunk.layout
    said = {name: getattr(layout, name) for name in ("channels", "size", "padding")}
    said |= {name: getattr(layout, name) for name in ("shift", "graph") if getattr(layout, name)}
    return dataclasses.replace(config, trunk=trunk.name, stride=layout.stride, layout=said, conv5=False,
                               padding="torch", source={**config.source, **trunk.source})
