"""Weights of 7 bits, rounded one after the other: what a layer gives changes less than by rounding each for itself."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from delf.network.rounding import LARGEST, channel_steps, round_rows, round_weights

onnx = pytest.importorskip("onnx")


def _alike(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    """(count, width) inputs above zero that go together, as those of a layer do."""
    causes = np.random.default_rng(99).normal(size=(4, width))
    return np.maximum(rng.normal(size=(count, 4)) @ causes + 0.2 * rng.normal(size=(count, width)), 0)


def test_outputs_change_less_than_by_rounding_each_weight() -> None:
    rng = np.random.default_rng(0)
    rows, inputs = rng.normal(size=(12, 60)), _alike(rng, 500, 60)
    steps = channel_steps(rows)
    found = round_rows(rows, steps, inputs.T @ inputs / len(inputs))
    plain = np.rint(rows / steps[:, None])
    fresh = _alike(rng, 2000, 60)
    errors = [np.square((made * steps[:, None] - rows) @ fresh.T).mean() for made in (found, plain)]
    assert errors[0] < errors[1] / 3
    assert np.array_equal(found, np.rint(found))


def test_a_single_weight_is_rounded_as_well_as_may_be() -> None:
    """Beside every choice of two whole numbers near the exact ones."""
    rows, inputs = np.array([[0.731, -0.402]]), np.array([[1.0, 0.9], [0.4, 0.5], [0.8, 0.7]])
    products = inputs.T @ inputs / 3
    step = np.array([0.11], np.float32)
    found = round_rows(rows, step, products)[0]

    def error(whole: Any) -> float:
        change = np.array(whole) * step - rows[0]
        return float(change @ products @ change)

    near = [(np.floor(value / step[0]), np.ceil(value / step[0])) for value in rows[0]]
    assert error(found) == pytest.approx(min(error(whole) for whole in product(*near)))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4])
def test_no_weight_is_above_the_largest(scale: float) -> None:
    """Nor where what others leave would carry it there, where a channel is of nothing, or inputs are."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(5, 20)) * scale
    rows[2], rows[3] = 0, np.sign(rows[3]) * scale  # all at the end of the range
    for inputs in (_alike(rng, 10, 20), np.zeros((10, 20)), np.ones((10, 20))):
        found = round_rows(rows, channel_steps(rows), inputs.T @ inputs)
        assert np.isfinite(found).all()
        assert np.abs(found).max() == LARGEST
        assert not found[2].any()


def test_steps_of_channels() -> None:
    steps = channel_steps(np.array([[0.5, -1.28], [0.0, 0.0], [1e-9, 0.0]]))
    np.testing.assert_allclose(steps, [0.02, 2e-6, 2e-6], rtol=1e-6)
    assert channel_steps(np.zeros((2, 3))).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("bias", [True, False])
def test_the_bias_makes_up_for_what_rounding_leaves_on_average(bias: bool) -> None:
    """In a file of two convolutions, of which the first alone is rounded; without a bias there is none to change."""
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    squares = [np.full((1, 3, 20, 24), value, np.float32) for value in (20, 130, 210)]
    model = _convolutions({"c": weights, "d": np.ones((2, 4, 1, 1), np.float32)}, bias=bias)
    steps = round_weights(model, ["c"], squares)
    assert list(steps) == ["c.w"]
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    whole = stored["c.w"] / steps["c.w"][:, None, None, None]
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-4)
    assert (stored["d.w"] == 1).all()
    if bias:
        left = (weights - stored["c.w"]).astype(np.float64).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(stored["c.b"], left * 120, atol=1e-4)
        assert not stored["d.b"].any()


def test_inner_layers_are_rounded_by_what_reaches_them() -> None:
    rng = np.random.default_rng(3)
    squares = [np.full((1, 3, 16, 16), value, np.float32) for value in (60, 180)]
    model = _convolutions({"c": np.full((4, 3, 1, 1), 0.01, np.float32),
                           "d": rng.normal(size=(2, 4, 1, 1)).astype(np.float32)}, bias=True)
    exact = onnx.numpy_helper.to_array(model.graph.initializer[2])
    round_weights(model, ["c", "d"], squares)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    left = (exact - stored["d.w"]).astype(np.float64).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(stored["d.b"], left * 0.03 * 120, atol=1e-4)


def test_equal_biases_that_an_exporter_stored_once_are_told_apart() -> None:
    rng = np.random.default_rng(4)
    weights = {name: rng.normal(size=(4, width, 1, 1)).astype(np.float32) for name, width in (("c", 3), ("d", 4))}
    squares = [np.full((1, 3, 16, 16), value, np.float32) for value in (60, 180)]
    separate, shared, passed = (_convolutions(weights, bias=True) for _ in range(3))
    for model, name in ((shared, "c.b"), (passed, "passed")):
        model.graph.node[1].input[2] = name
    passed.graph.node.insert(0, onnx.helper.make_node("Identity", ["c.b"], ["passed"]))
    expected = _biases(separate, squares)
    assert not np.array_equal(*expected)
    for model in (shared, passed):
        np.testing.assert_array_equal(_biases(model, squares), expected)


def _biases(model: Any, squares: list[np.ndarray]) -> list[np.ndarray]:
    """Of its two convolutions, after rounding."""
    round_weights(model, ["c", "d"], squares)
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return [stored[node.input[2]] for node in model.graph.node if node.op_type == "Conv"]


def _convolutions(weights: dict[str, np.ndarray], *, bias: bool) -> Any:
    """A model of convolutions without padding, one behind the other."""
    make, held, nodes, source = onnx.helper, [], [], "images"
    for name, values in weights.items():
        arrays = {f"{name}.w": values, f"{name}.b": np.zeros(len(values), np.float32)}
        held += [onnx.numpy_helper.from_array(array, key) for key, array in arrays.items()][: 1 + bias]
        nodes.append(make.make_node("Conv", [source, *arrays][: 2 + bias], [f"{name}.out"], name=name,
                                    kernel_shape=values.shape[2:], strides=[1, 1]))
        source = f"{name}.out"
    sides = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("images", source)]
    return make.make_model(make.make_graph(nodes, "g", sides[:1], sides[1:], held),
                           opset_imports=[make.make_opsetid("", 17)], ir_version=8)
