"""A trunk that is an ONNX file: it stays as it is, and goes into the files of a model whole.

What lies around it in a model (padding, how its map lies) is put into the graph once, so that a model has one graph
from normalised pictures to features. In torch, ONNX Runtime computes it, without gradients; the ONNX form of the model
is that graph with the heads behind it (`delf.network.export`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delf.errors import ModelError
from delf.models.layouts import OpenLayout
from delf.network.foreign import Foreign, look_through, read_foreign
from delf.network.own import GivenTrunk, TrunkOptions, answered, placed
from delf.network.placing import Placing, as_map
from delf.network.probing import Progress
from delf.network.tracing import halve_weights, joined, onnx_of, opset_of, traced
from delf.network.trunk import Trunk
from delf.pools import Pool
from delf.privacy import quiet_onnxruntime

PICTURES = {0: "batch", 2: "height", 3: "width"}
MAP = {0: "batch", 2: "rows", 3: "columns"}


class GraphTrunk(Trunk):
    """A graph from normalised pictures to the map of features, as a buffer of bytes: `graph`, (N,) uint8.

    Each picture is computed on one thread, so that results do not depend on how many there are.
    """

    frozen = True

    def __init__(self, size: int) -> None:
        super().__init__()
        self.graph: Tensor
        self.register_buffer("graph", torch.empty(size, dtype=torch.uint8))
        self._session: Any = None
        self._pool = Pool(torch.get_num_threads(), "delf-trunk")

    def forward(self, images: Tensor) -> Tensor:
        """As `Trunk` says. Raises `ModelError` where the graph cannot be computed."""
        session = self._session = self._session or _looked_through(self.graph.cpu().numpy().tobytes())
        pixels = images.detach().float().cpu().contiguous().numpy()

        def run(one: Any) -> Any:
            return session.run(["feature_map"], {"images": one[None]})[0][0]

        return answered(lambda: torch.from_numpy(np.stack(list(self._pool.map(run, pixels)))).to(images.device),
                        "the trunk", images)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        self._session = None
        super()._load_from_state_dict(*arguments, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}


class OnnxTrunk(GraphTrunk, GivenTrunk):
    """One that was just made of a file, with what was found of it."""

    def __init__(self, graph: bytes, options: TrunkOptions, layout: OpenLayout) -> None:
        super().__init__(len(graph))
        self.graph.copy_(torch.frombuffer(bytearray(graph), dtype=torch.uint8))
        self.name, self.layout = options.name, layout


def onnx_trunk(path: Path, options: TrunkOptions | None = None, *, precision: str = "half",
               progress: Progress = lambda done, total: None) -> OnnxTrunk:
    """The trunk of an ONNX file.

    Args:
        precision: as in `ModelConfig`: "half" stores the weights of its convolutions in half precision.
        progress: as for `delf.network.probing.probe`.

    Raises:
        ModelError: it cannot be used; the sentence says why. MissingDependencyError: onnx is not installed.
    """
    options, what = options or TrunkOptions(), str(path)
    foreign = read_foreign(path, given=options.input, taken=str(options.output))
    del foreign.model.metadata_props[:]
    if precision == "half":
        halve_weights(foreign.model.graph, exactly=True)
    session = session_of(foreign.model.SerializeToString(), what)

    def compute(images: Tensor) -> Tensor:
        pixels = images if options.input_layout == "nchw" else images.permute(0, 2, 3, 1)
        found = answered(lambda: torch.from_numpy(
            session.run([foreign.output], {foreign.input: pixels.contiguous().numpy()})[0]), what, images)
        return as_map(found, options.map_layout, images, options.stride, options.tokens)

    placing, layout = placed(compute, options, what, progress)
    graph = _whole(foreign, options, placing).SerializeToString()
    trunk = OnnxTrunk(graph, options, OpenLayout(layout.channels, layout.stride, layout.size, layout.padding,
                                                 shift=layout.shift, graph=len(graph)))
    _require_same(trunk, compute, placing, what)
    trunk.source = {path.name: foreign.digest}
    return trunk


class _Before(nn.Module):
    """(B, 3, H, W) -> what the file is given, and of the pictures a pixel for each cell, which says how many."""

    def __init__(self, options: TrunkOptions, placing: Placing) -> None:
        super().__init__()
        self.options, self.placing = options, placing

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        padded = self.placing.pad(images)
        given = padded if self.options.input_layout == "nchw" else padded.permute(0, 2, 3, 1)
        return given, images[:, :1], padded[:, :1]


class _Behind(nn.Module):
    """What the file gives, and the pictures before and after padding, of which only the sizes count -> the map."""

    def __init__(self, options: TrunkOptions, placing: Placing) -> None:
        super().__init__()
        self.options, self.placing = options, placing

    def forward(self, output: Tensor, images: Tensor, padded: Tensor) -> Tensor:
        found = as_map(output, self.options.map_layout, padded, self.placing.stride, self.options.tokens)
        return self.placing.cut(found, images)


def _whole(foreign: Foreign, options: TrunkOptions, placing: Placing) -> Any:
    """The graph from normalised pictures to the map of features."""
    onnx, opset = onnx_of("an ONNX file as a trunk"), opset_of(foreign.model)
    image = torch.zeros(1, 3, 2 * placing.multiple, 3 * placing.multiple)
    with torch.no_grad():
        before = _Before(options, placing)
        _, small, padded = before(image)
    sides = {0: "batch", 1: "height", 2: "width"} if options.input_layout == "nhwc" else PICTURES
    first = traced(before, (image,), {"images": PICTURES, "given": sides, "original": PICTURES, "padded": PICTURES},
                   ["given", "original", "padded"], opset=opset)
    cells = [padded.shape[2] // placing.stride + placing.surplus, padded.shape[3] // placing.stride + placing.surplus]
    shape = {"nchw": [1, 1, *cells], "nhwc": [1, *cells, 1], "tokens": [1, cells[0] * cells[1] + options.tokens, 1]}
    any_length = {axis: f"axis {axis}" for axis in range(len(shape[options.map_layout]))}
    last = traced(_Behind(options, placing), (torch.zeros(shape[options.map_layout]), small, padded),
                  {"output": any_length, "original": PICTURES, "padded": PICTURES, "feature_map": MAP},
                  ["feature_map"], opset=opset)
    own = onnx.compose.add_prefix(foreign.model, "given/")
    with_own = joined(first, own, [("given", f"given/{foreign.input}")],
                      [f"given/{foreign.output}", "original", "padded"])
    return joined(with_own, last, [(f"given/{foreign.output}", "output"), ("original", "original"),
                                   ("padded", "padded")], ["feature_map"])


@torch.no_grad()
def _require_same(trunk: OnnxTrunk, compute: Any, placing: Placing, what: str) -> None:
    """Compare the graph with what it was made of, for a size whose sides are no multiples of anything."""
    images = torch.randn((2, 3, 5 * placing.stride + 3, 7 * placing.stride - 2),
                         generator=torch.Generator().manual_seed(0))
    expected = placing.cut(compute(placing.pad(images[1:])), images)
    found = trunk(images)[1:]
    if found.shape != expected.shape or not torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max())):
        raise ModelError(f"{what} gives other features where it is put together with what goes around it; export it "
                         "again, with another opset")


def _looked_through(graph: bytes) -> Any:
    """An ONNX Runtime for the graph of a model file, which may be a stranger's."""
    onnx, what = onnx_of("a model whose trunk is an ONNX file"), "the trunk of the model"
    try:
        model = onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf has classes of its own
        raise ModelError(f"{what} is damaged; get the file again") from error
    look_through(model, what)
    return session_of(graph, what)


def session_of(data: bytes, what: str) -> Any:
    """An ONNX Runtime for bytes of a graph, on the thread that calls it."""
    import onnxruntime

    quiet_onnxruntime(onnxruntime)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # sizes differ from call to call
    options.log_severity_level = 4  # what goes wrong comes back as an exception
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes are not public
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{what} cannot be computed ({reason}); export it again") from error
