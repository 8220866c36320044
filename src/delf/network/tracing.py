"""Modules of torch as ONNX graphs in memory, and graphs put behind one another."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from delf.errors import ModelError, missing_dependency

OPSET = 17
NEWEST_TRACED = 20  # of the opsets that the tracing exporter writes
Axes = Mapping[str, Mapping[int, str]]


def onnx_of(purpose: str) -> Any:
    """The package `onnx`. Raises `MissingDependencyError` where it is not installed."""
    try:
        import onnx
        import onnx.compose
        import onnx.inliner
        import onnx.version_converter
    except ImportError as error:
        raise missing_dependency("onnx", "torch", purpose) from error
    return onnx


def traced(module: nn.Module, examples: tuple[Tensor, ...], axes: Axes, outputs: Sequence[str], *, opset: int = OPSET,
           as_is: bool = False) -> Any:
    """The ONNX model (a `ModelProto`) of a module, for inputs of any size.

    Args:
        axes: the names of inputs and outputs, and of those of their axes that may have any length; inputs first.
        as_is: whether batch norms are left beside their convolutions, so that these are stored as they are.
    """
    onnx, file = onnx_of("the export of a model"), io.BytesIO()
    mode = torch.onnx.TrainingMode.PRESERVE if as_is else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings(), _without_log():
        # The tracing exporter is deprecated, but gives dynamic sizes in one file without guards on them.
        warnings.simplefilter("ignore")
        torch.onnx.export(module, examples, file,  # type: ignore[arg-type]  # which the tracing exporter takes
                          dynamo=False, training=mode, opset_version=min(opset, NEWEST_TRACED),
                          input_names=[name for name in axes if name not in outputs], output_names=list(outputs),
                          dynamic_axes={name: dict(said) for name, said in axes.items()})
    made = onnx.load_model_from_string(file.getvalue())
    return made if opset <= NEWEST_TRACED else onnx.version_converter.convert_version(made, opset)


@contextmanager
def _without_log() -> Iterator[None]:
    """Without the thousands of lines that the exporter prints of a graph that it cannot write."""
    before = getattr(torch._C, "_jit_onnx_log", None)
    setattr(torch._C, "_jit_onnx_log", lambda *_: None)  # noqa: B010 (its type is fixed)
    try:
        yield
    finally:
        setattr(torch._C, "_jit_onnx_log", before)  # noqa: B010


def joined(first: Any, second: Any, pairs: Sequence[tuple[str, str]], outputs: Sequence[str]) -> Any:
    """Two ONNX models as one.

    Args:
        pairs: an output of the first, and the input of the second that it becomes. outputs: of the two, that the joined
            one has, in this order.

    Raises:
        ModelError: they do not go together.
    """
    onnx = onnx_of("the export of a model")
    version = max(first.ir_version, second.ir_version)
    first.ir_version = second.ir_version = version
    marked = onnx.compose.add_prefix(second, "behind/", rename_inputs=False, rename_outputs=False)
    taken = {one.name for one in marked.graph.input}  # what makes no difference, tracing leaves out
    used = [(output, given) for output, given in pairs if given in taken]
    try:
        made = onnx.compose.merge_models(first, marked, io_map=used, outputs=list(outputs))
    except ValueError as error:
        raise ModelError(f"two ONNX graphs do not go together ({error}); export the network with another opset, such "
                         f"as {OPSET}") from error
    del made.graph.value_info[:]
    ordered = sorted(made.graph.output, key=lambda one: list(outputs).index(one.name))
    del made.graph.output[:]
    made.graph.output.extend(ordered)
    return made


def opset_of(model: Any) -> int:
    """The opset of the usual operators."""
    return next((int(one.version) for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)


def halve_weights(graph: Any, *, exactly: bool = False) -> None:
    """Store weights of convolutions in float16, with a Cast back to float32 in front of their use.

    exactly: whether other arrays of four axes or more are left; in a network of a user's they may hold anything.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    names = {node.input[1] for node in graph.node if node.op_type in ("Conv", "ConvTranspose")}
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 4 or (exactly and tensor.name not in names):
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name=f"{name}.half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT, name=f"{name}.single"))
    for cast in reversed(casts):
        graph.node.insert(0, cast)
