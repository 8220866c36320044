"""Attention and pooling against the formulas, in plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from delf.models import POOLING_NAMES
from delf.network.heads import POOLINGS, RMAC, Attention, FeatureNorm, GeM, regions


@pytest.fixture
def feature_map() -> Any:
    torch.manual_seed(2)
    return torch.rand(2, 6, 5, 8) * 3


@torch.no_grad()
def test_attention_is_the_papers_formula(feature_map: Any) -> None:
    torch.manual_seed(3)
    head = Attention(6, 4, batch_norm=False).eval()
    scores = head(feature_map)
    assert scores.shape == (2, 5, 8)
    first, bias = head.conv1.weight[:, :, 0, 0].double(), head.conv1.bias.double()
    second, last = head.conv2.weight[0, :, 0, 0].double(), head.conv2.bias.double()
    for image in range(2):
        for row in range(5):
            for column in range(8):
                hidden = first @ feature_map[image, :, row, column].double() + bias
                logit = float(second @ hidden.clamp(min=0) + last)
                assert float(scores[image, row, column]) == pytest.approx(math.log1p(math.exp(logit)), rel=1e-5)
    assert (scores > 0).all()


def test_attention_reads_features_that_are_not_normalised(feature_map: Any) -> None:
    head = Attention(6, 4).eval()
    assert not torch.allclose(head(feature_map), head(feature_map / feature_map.norm(dim=1, keepdim=True)))


def test_attention_with_batch_norm(feature_map: Any) -> None:
    torch.manual_seed(3)
    head = Attention(6, 4, batch_norm=True)
    assert set(head.state_dict()) - set(Attention(6, 4, batch_norm=False).state_dict()) \
        >= {"bn1.weight", "bn1.running_mean"}
    assert head.conv1.bias is None
    head.bn1.running_mean.uniform_(-1, 1)
    head.bn1.running_var.uniform_(0.5, 2)
    head.eval()
    hidden = head.conv1(feature_map)
    mean, variance = (statistic.view(1, -1, 1, 1) for statistic in (head.bn1.running_mean, head.bn1.running_var))
    normed = (hidden - mean) / (variance + head.bn1.eps).sqrt()
    logits = (normed.clamp(min=0) * head.conv2.weight).sum(dim=1) + head.conv2.bias
    torch.testing.assert_close(head(feature_map), torch.log1p(logits.exp()), rtol=1e-5, atol=1e-6)


def test_default_attention_is_512_wide() -> None:
    assert Attention(1024).conv1.weight.shape == (512, 1024, 1, 1)


def test_feature_norm(feature_map: Any) -> None:
    np.testing.assert_allclose(FeatureNorm()(feature_map).numpy(), np.linalg.norm(feature_map.numpy(), axis=1),
                               rtol=1e-6)


@pytest.mark.parametrize("p", [1.0, 3.0, 6.5])
def test_gem_is_the_generalised_mean(feature_map: Any, p: float) -> None:
    pooled = GeM(p)(feature_map).detach()
    for image in range(2):
        for channel in range(6):
            values = [float(value) for value in feature_map[image, channel].ravel()]
            expected = (sum(value**p for value in values) / len(values)) ** (1 / p)
            assert float(pooled[image, channel]) == pytest.approx(expected, rel=1e-5)


def test_gem_between_average_and_maximum(feature_map: Any) -> None:
    torch.testing.assert_close(GeM(1.0)(feature_map).detach(), feature_map.mean(dim=(2, 3)))
    torch.testing.assert_close(GeM(60.0)(feature_map / 3).detach(), (feature_map / 3).amax(dim=(2, 3)), rtol=0.1,
                               atol=0)
    assert torch.isfinite(GeM()(torch.zeros(1, 2, 3, 3))).all()


def literal_regions(height: int, width: int, levels: int) -> list[tuple[int, int, int]]:
    """Tolias et al.: count along the long side by the overlap nearest 40 %, then a grid at each level."""
    short = min(height, width)
    best, extra = math.inf, 0
    for count in range(2, 8):
        step = (max(height, width) - short) / (count - 1)
        overlap = (short * short - short * step) / (short * short)
        if height != width and abs(overlap - 0.4) < best:
            best, extra = abs(overlap - 0.4), count - 1
    found = []
    for level in range(1, levels + 1):
        side = max(1, math.floor(2 * short / (level + 1)))
        rows, columns = level + extra * (height > width), level + extra * (width > height)
        for i in range(rows):
            for j in range(columns):
                top = (height - side) * i // (rows - 1) if rows > 1 else (height - side) // 2
                left = (width - side) * j // (columns - 1) if columns > 1 else (width - side) // 2
                found.append((top, left, side))
    return found


@pytest.mark.parametrize(("height", "width"), [(12, 12), (12, 16), (16, 12), (10, 30), (1, 1), (1, 40), (2, 3), (7, 8)])
def test_regions_are_inside_and_reach_the_borders(height: int, width: int) -> None:
    found = regions(height, width, 3)
    assert found == literal_regions(height, width, 3)
    for top, left, side in found:
        assert 0 <= top <= height - side
        assert 0 <= left <= width - side
    assert min(top for top, _, _ in found) == min(left for _, left, _ in found) == 0
    assert max(top + side for top, _, side in found) == height
    assert max(left + side for _, left, side in found) == width


def test_a_square_has_1_4_and_9_regions() -> None:
    sides = [side for _, _, side in regions(12, 12, 3)]
    assert sides == [12] + 4 * [8] + 9 * [6]


def test_rmac_is_the_sum_of_normalised_maxima(feature_map: Any) -> None:
    pooled = RMAC()(feature_map).numpy()
    for image, maps in enumerate(feature_map.numpy().astype(np.float64)):
        parts = [maps[:, top : top + side, left : left + side] for top, left, side in literal_regions(5, 8, 3)]
        total = np.zeros(6)
        for part in [maps, *parts]:  # the whole map counts as one more region
            maxima = np.array([part[channel].max() for channel in range(6)])
            total += maxima / np.linalg.norm(maxima)
        np.testing.assert_allclose(pooled[image], total, rtol=1e-5)


def test_every_pooling_has_a_name_that_files_may_say() -> None:
    assert tuple(POOLINGS) == POOLING_NAMES
    for make in POOLINGS.values():
        assert make()(torch.rand(3, 4, 2, 2)).shape == (3, 4)
