"""ONNX files of strangers: read as data, looked through before anything computes them, and of bounded size.

Nothing but the usual operators is taken: none of a library of somebody's, and no loops, which need not end. Weights
that lie beside the file are read from its own folder alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delf.errors import ModelError
from delf.network.tracing import onnx_of, opset_of

LARGEST = 1_900_000_000  # bytes, of the file and of weights beside it; a protocol buffer ends at 2 GiB
OLDEST_OPSET = 11  # whose padding takes sizes that are computed
LOOPS = ("Loop", "Scan")


@dataclass(frozen=True)
class Foreign:
    """A network in an ONNX file. model: a `ModelProto` with all weights in it. input, output: the names of those that
    are taken. digest: the SHA-256 of the file.
    """

    model: Any
    input: str
    output: str
    digest: str


def read_foreign(path: Path, *, given: str = "", taken: str = "") -> Foreign:
    """Read an ONNX file that computes a map of features.

    Args:
        given, taken: the names of the input and of the output, where it has several.

    Raises:
        ModelError: it cannot be read, is damaged or too large, computes with what is not taken, or takes pictures of
            one size only. MissingDependencyError: onnx is not installed.
    """
    onnx = onnx_of("an ONNX file as a trunk")
    model = _loaded(onnx, path)
    try:
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker have classes of their own
        raise ModelError(f"{path} is damaged, or no ONNX model ({_first_line(error)}); get it again") from error
    look_through(model, str(path))
    stored = {tensor.name for tensor in model.graph.initializer}
    inputs = {one.name: one for one in model.graph.input if one.name not in stored}
    chosen = _chosen(path, "input", list(inputs), given)
    _require_any_size(inputs[chosen], path)
    output = _chosen(path, "output", [one.name for one in model.graph.output], taken)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Foreign(model, chosen, output, digest)


def _loaded(onnx: Any, path: Path) -> Any:
    """The model with the weights that lie beside it."""
    try:
        sizes = path.stat().st_size
        if sizes > LARGEST:
            raise ModelError(f"{path} has {sizes:,} bytes, and {LARGEST:,} is the most that an ONNX file may have here")
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error}); check the path") from error
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{path} is damaged, or no ONNX file ({_first_line(error)}); get it again") from error
    outside = [tensor for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    for place in sorted({_place_of(tensor) for tensor in outside}):
        file = path.parent / place
        if not _inside(file, path.parent):
            raise ModelError(f"{path} has weights in {place!r}, which is outside of its folder, and is not read")
        if not file.is_file():
            raise ModelError(f"{path} has weights in the file {place!r} beside it, which is not there; get it, too")
        sizes += file.stat().st_size
    if sizes > LARGEST:
        raise ModelError(f"{path} and the weights beside it have {sizes:,} bytes, and {LARGEST:,} is the most here")
    try:
        if outside:
            onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:
        raise ModelError(f"the weights beside {path} cannot be read ({_first_line(error)}); get them again") from error
    return model


def _inside(file: Path, folder: Path) -> bool:
    """Whether a file lies in a folder, whatever links there are on the way."""
    try:
        return file.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a name that none can have, or links in a circle
        return False


def _place_of(tensor: Any) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)


def _all_graphs(model: Any) -> Iterator[Any]:
    for root in (model.graph, *model.functions):
        yield from _graphs(root)


def _tensors(model: Any) -> Iterator[Any]:
    """All that may have data in another file."""
    for graph in _all_graphs(model):
        yield from getattr(graph, "initializer", ())
        for node in graph.node:
            for attribute in node.attribute:
                yield from attribute.tensors
                if attribute.HasField("t"):
                    yield attribute.t


def look_through(model: Any, what: str) -> None:
    """Refuse a model, called `what`, that is not computed here. Raises `ModelError`."""
    if any(tensor.data_location for tensor in _tensors(model)):
        raise ModelError(f"{what} has weights in another file, which is not read")
    if opset_of(model) < OLDEST_OPSET:
        raise ModelError(f"{what} is of opset {opset_of(model)}, and {OLDEST_OPSET} is the oldest that can be a trunk; "
                         "export it with a newer one")
    for graph in _all_graphs(model):
        for node in graph.node:
            if node.domain not in ("", "ai.onnx"):
                raise ModelError(f"{what} computes with {node.op_type!r} of {node.domain!r}, which is none of the "
                                 "usual operators of ONNX; export it with those alone")
            if node.op_type in LOOPS:
                raise ModelError(f"{what} computes in a loop ({node.op_type}), which need not end, and is not taken")


def _chosen(path: Path, kind: str, names: list[str], said: str) -> str:
    """The input or output that is said, or the only one."""
    if said in names:
        return said
    if said or len(names) != 1:
        missing = f"no {kind} {said!r}" if said else f"{len(names)} {kind}s"
        raise ModelError(f"{path} has {missing}; say in [trunk] which one is taken, {kind} = one of "
                         f"{', '.join(map(repr, names)) or 'none'}")
    return names[0]


def _require_any_size(given: Any, path: Path) -> None:
    """Refuse a file that is for pictures of one size, or one number of pictures."""
    tensor = given.type.tensor_type
    sizes = [axis.dim_value if axis.HasField("dim_value") else 0 for axis in tensor.shape.dim]
    if tensor.elem_type != 1 or len(sizes) != 4:
        raise ModelError(f"{path} takes in {given.name!r} an array of {len(sizes)} axes that are not float32 pictures; "
                         "a trunk takes normalised pictures (B, 3, H, W) as float32")
    if sum(size > 0 for size in sizes) > 1:
        fixed = " x ".join(str(size or "any") for size in sizes)
        raise ModelError(f"{path} takes pictures of one size only ({fixed}), and a trunk takes any; export it with a "
                         "batch, a height and a width that may be of any length (dynamic_axes, or dynamic_shapes)")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
