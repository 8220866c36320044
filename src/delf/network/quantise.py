"""A model in 8 bits: the ONNX file of a model, with the convolutions of its trunk computed in whole numbers.

Weights are rounded for each output channel (`delf.network.rounding`), activations for each layer, to the range that
photos give them (static quantisation by ONNX Runtime; both runtimes of ONNX files read the result). Attention, pooling
and all outputs stay in single precision. The file says that it is the same model as before: its features mix with those
of the exact one. They differ a little between processors, as single precision does, but are no worse on any.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import islice
from logging import NOTSET, WARNING, disable
from pathlib import Path
from typing import Any

import numpy as np

from delf.errors import ImageError, ModelError, missing_dependency
from delf.files import replacing
from delf.images import read_image, resize
from delf.models import METADATA_KEY, ModelConfig, TrunkLayout
from delf.models.digest import seal
from delf.network.rounding import round_weights
from delf.types import FloatArray

SIDE = 320  # of the squares that ranges are measured on
PERCENTILE = 99.99  # of the activations of a layer that is inside its range; the largest of all would waste the steps


def quantise_onnx(source: Path, photos: Sequence[Path], target: Path, *, count: int = 48, seed: int = 0,
                  report: Callable[[str], None] = lambda sentence: None) -> None:
    """Write the ONNX file `source` with the convolutions of its trunk in 8 bits.

    Args:
        photos: what ranges are measured on: the centres of `count` of them, drawn with `seed`, at several scales.
        report: is told of photos that cannot be read, which are passed over.

    Raises:
        ModelError: the file is none of `export_onnx`, or in 8 bits already; or no photo can be read.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_dependency("onnx", "torch", "quantisation") from error
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    try:
        graph = onnx.load(source)
    except Exception as error:  # protobuf has errors of its own
        raise ModelError(f"{source} cannot be read as an ONNX model; get it again") from error
    about = {entry.key: entry.value for entry in graph.metadata_props}.get(METADATA_KEY)
    if about is not None and not isinstance(ModelConfig.from_json(about, source).trunk_layout, TrunkLayout):
        raise ModelError(f"{source} has a trunk that is no ResNet, and 8 bits are for those alone")
    trunk = [node.name for node in graph.graph.node if node.name.startswith("/trunk/") and not _each_by_itself(node)]
    if not trunk:
        raise ModelError(f"{source} has no trunk to quantise; give a file that 'delf export' has made")
    if any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        raise ModelError(f"{source} is in 8 bits already; give the model that it was made from")
    squares = list(islice(_squares(photos, np.random.default_rng(seed), report), count))
    if not squares:
        raise ModelError("there is no photo that can be read, and quantisation needs some, to see which numbers occur")
    with tempfile.TemporaryDirectory() as place, replacing(target) as temporary:
        plain = Path(place) / "plain.onnx"
        _single_weights(graph)
        steps = round_weights(graph, trunk, squares, seed)
        onnx.save(graph, plain)
        with _without_advice():
            quantize_static(
                plain, temporary, _Squares(squares), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.Percentile, nodes_to_quantize=trunk, extra_options={
                    "CalibPercentile": PERCENTILE, "TensorQuantOverrides": {
                        name: [{"quant_type": QuantType.QInt8, "axis": 0, "scale": step, "zero_point": np.int8(0)}
                               for step in channels] for name, channels in steps.items()}})
        quantised = onnx.load(temporary)
        onnx.helper.set_model_props(quantised, {entry.key: entry.value for entry in graph.metadata_props})
        onnx.save(quantised, temporary)
        seal(temporary)


def _each_by_itself(node: Any) -> bool:
    """Whether it is a convolution of each channel by itself: too little work to be worth 8 bits."""
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


class _Squares:
    """What `quantize_static` reads: pictures, one at a time."""

    def __init__(self, squares: Sequence[FloatArray]) -> None:
        self._squares = iter(squares)

    def get_next(self) -> dict[str, FloatArray] | None:
        """The next input, or None at the end."""
        square = next(self._squares, None)
        return None if square is None else {"images": square}


def _squares(photos: Sequence[Path], rng: np.random.Generator, report: Callable[[str], None]) -> Iterator[FloatArray]:
    """(1, 3, SIDE, SIDE) float32: the centres of photos in a random order."""
    for number in rng.permutation(len(photos)).tolist():
        try:
            image = read_image(photos[number])
        except ImageError as error:
            report(str(error))
            continue
        height, width = image.shape[:2]
        scale = max(float(rng.choice([0.5, 0.7071, 1.0, 1.4142, 2.0])), (SIDE + 1) / min(height, width))
        image = resize(image, (round(width * scale), round(height * scale)))
        top, left = (image.shape[0] - SIDE) // 2, (image.shape[1] - SIDE) // 2
        square = image[top : top + SIDE, left : left + SIDE]
        yield square.transpose(2, 0, 1)[None].astype(np.float32)


def _single_weights(model: Any) -> None:
    """Replace weights in half precision, and the casts behind them, by weights in single precision."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in stored]:
        half = stored[node.input[0]]
        single = numpy_helper.from_array(numpy_helper.to_array(half).astype(np.float32), node.output[0])
        half.CopyFrom(single)
        model.graph.node.remove(node)


@contextmanager
def _without_advice() -> Iterator[None]:
    """Without what the quantiser prints and logs: what it is at, and advice on a step that this graph does not need."""
    disable(WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        disable(NOTSET)
