"""Weights of convolutions as whole numbers of 7 bits, which every processor adds up rightly.

Processors without instructions for it (AVX2 without VNNI) multiply an activation from 0 to 255 by a weight and add two
such products in 16 bits, where a larger sum is cut off. With weights of 8 bits that happens, and features are worse
there without a word; with weights up to `LARGEST` it cannot, whichever two weights meet.

Rounding to so few bits would cost more than cutting off gains, were each weight rounded for itself. So they are
rounded one after the other, and what one leaves is made up for by those that are still to be rounded, as far as their
inputs go together (the rounding of GPTQ, Frantar et al. 2023). The layers come out nearer to the exact ones than with 8
bits rounded one by one (`benchmarks/CHOICES.md`, "Precision").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from delf.types import FloatArray

LARGEST = 64  # 255 * (64 + 64) = 32,640 fits into 16 bits, of which one is the sign
PLACES = 300  # of each picture and layer, at which inputs are looked at
DAMPING = 0.01  # of the mean of squares; keeps what few pictures say from being believed to the last digit

Doubles = NDArray[np.float64]


def round_weights(model: Any, names: Iterable[str], squares: Sequence[FloatArray], seed: int = 0
                  ) -> dict[str, FloatArray]:
    """Replace weights of convolutions in an ONNX `model` by multiples of a step, and make up for it in their biases.

    Args:
        names: of the convolutions.
        squares: pictures, as the model takes them.

    Returns:
        By the name of each tensor of weights the step of each of its output channels, (C,) float32: the weights are
        whole numbers from -`LARGEST` to `LARGEST` times it.
    """
    from onnx import numpy_helper

    convolutions = {node.name: node for node in model.graph.node if node.op_type == "Conv" and node.name in set(names)}
    _separate_biases(model, convolutions)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    steps = {}
    with threadpool_limits(1):  # sums of several threads differ with their number
        for node, products, means in _inputs(model, convolutions, squares, np.random.default_rng(seed)):
            tensor = stored[node.input[1]]
            exact = numpy_helper.to_array(tensor).astype(np.float64)
            rows = exact.reshape(len(exact), -1)
            step = steps[tensor.name] = channel_steps(rows)
            made = round_rows(rows, step, products) * step[:, None]
            tensor.CopyFrom(numpy_helper.from_array(made.reshape(exact.shape).astype(np.float32), tensor.name))
            if len(node.input) > 2:
                bias = stored[node.input[2]]
                shifted = numpy_helper.to_array(bias) + (rows - made) @ means
                bias.CopyFrom(numpy_helper.from_array(shifted.astype(np.float32), bias.name))
    return steps


def _separate_biases(model: Any, convolutions: Mapping[str, Any]) -> None:
    """Give each convolution a bias of its own: exporters store equal ones once, behind nodes that pass them on."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    passed = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    uses = Counter(name for node in model.graph.node for name in node.input)
    for name, node in convolutions.items():
        if len(node.input) > 2 and (node.input[2] not in stored or uses[node.input[2]] > 1):
            source = node.input[2]
            while source not in stored:
                source = passed[source]
            node.input[2] = f"{name}.own_bias"
            model.graph.initializer.add().CopyFrom(stored[source])
            model.graph.initializer[-1].name = node.input[2]


def channel_steps(rows: Doubles) -> FloatArray:
    """(C, K) weights -> (C,) the step of each row: its largest has `LARGEST` of them, or fewer in a row of nothing."""
    largest = np.abs(rows).max(axis=1) / LARGEST
    return np.maximum(largest, 1e-4 * largest.max() or 1.0).astype(np.float32)


def round_rows(rows: Doubles, steps: FloatArray, products: Doubles) -> Doubles:
    """Round (C, K) weights to whole numbers of (C,) steps, so that outputs change as little as may be.

    products: (K, K) mean products of the inputs that the weights meet.
    """
    damped = products + np.eye(len(products)) * (DAMPING * np.trace(products) / len(products) or 1.0)
    order = np.argsort(-np.diag(damped), kind="stable")  # what counts most first, as long as much can make up for it
    # With `products` the square of a triangle, the change of an output is a sum of squares, the last of which hold all
    # errors and can be made nothing by the weights still to come: each weight sees to the first that it is in.
    triangle = np.ascontiguousarray(np.linalg.cholesky(damped[np.ix_(order[::-1], order[::-1])])[::-1, ::-1].T)
    exact, errors, whole = rows.T[order], np.zeros((len(order), len(rows))), np.zeros((len(order), len(rows)))
    for i, shares in enumerate(triangle):
        wanted = exact[i] + shares[:i] @ errors[:i] / shares[i]
        whole[i] = np.clip(np.rint(wanted / steps), -LARGEST, LARGEST)
        errors[i] = exact[i] - whole[i] * steps
    return np.asarray(whole[np.argsort(order)].T)


def _inputs(model: Any, convolutions: Mapping[str, Any], squares: Sequence[FloatArray],
            rng: np.random.Generator) -> Iterable[tuple[Any, Doubles, Doubles]]:
    """Each convolution with the mean products (K, K) and the means (K,) of what its weights are multiplied by."""
    import onnx
    import onnxruntime

    looking = onnx.ModelProto()
    looking.CopyFrom(model)
    inner = list(dict.fromkeys(node.input[0] for node in convolutions.values() if node.input[0] != "images"))
    looking.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
                                for name in inner)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(looking.SerializeToString(), options, providers=["CPUExecutionProvider"])
    sums: dict[str, list[Any]] = {name: [0.0, 0.0] for name in convolutions}  # of products, of inputs; soon arrays
    for square in squares:
        # Asked for nothing, it gives all that it has.
        inputs = dict(zip(inner, session.run(inner, {"images": square}), strict=False)) | {"images": square}
        for name, node in convolutions.items():
            patches = _patches(inputs[node.input[0]][0], node, rng).astype(np.float64)
            sums[name][0] += patches.T @ patches / PLACES
            sums[name][1] += patches.mean(axis=0)
    for name, node in convolutions.items():
        products, means = sums.pop(name)
        yield node, products / len(squares), means / len(squares)


def _patches(inputs: FloatArray, node: Any, rng: np.random.Generator) -> FloatArray:
    """(C, H, W) -> (`PLACES`, K) what the weights of a convolution meet at random places."""
    from onnx.helper import get_attribute_value

    stored = {entry.name: get_attribute_value(entry) for entry in node.attribute}
    rows, columns = stored["kernel_shape"]
    top, left, bottom, right = stored.get("pads", (0, 0, 0, 0))
    padded = np.pad(inputs, ((0, 0), (top, bottom), (left, right)))
    down, across = stored.get("strides", (1, 1))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), (1, 2))[:, ::down, ::across]
    places = np.divmod(rng.integers(0, windows.shape[1] * windows.shape[2], PLACES), windows.shape[2])
    return np.asarray(windows[:, places[0], places[1]].transpose(1, 0, 2, 3).reshape(PLACES, -1))
