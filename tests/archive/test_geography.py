"""Clusters of positions: held to DBSCAN by all distances, at the date line, at the poles and in crowds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.archive.geography import EARTH_KM, centre_of, dense_clusters, distances_km, unit_vectors
from delf.archive.positions import PlaceOptions, Places, with_places
from delf.errors import OptionError
from delf.grouping import Pairs, join_pairs


def reference(positions: np.ndarray, radius_km: float, minimum: int) -> np.ndarray:
    """DBSCAN as it was published, by the distances of all to all; what is not in the middle joins the nearest."""
    vectors = unit_vectors(positions)
    chords = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    distances = 2 * EARTH_KM * np.arcsin(np.minimum(chords / 2, 1))
    near = distances <= radius_km
    core, labels = near.sum(axis=1) >= minimum, np.full(len(positions), -1)
    for start in np.flatnonzero(core).tolist():
        if labels[start] < 0:
            waiting, labels[start] = [start], start
            while waiting:
                for other in np.flatnonzero(near[waiting.pop()] & core & (labels < 0)).tolist():
                    labels[other] = start
                    waiting.append(other)
    for place in np.flatnonzero(~core).tolist():
        beside = np.flatnonzero(near[place] & core)
        if len(beside):
            labels[place] = labels[beside[np.argmin(distances[place, beside])]]
    return labels


def together(labels: np.ndarray) -> np.ndarray:
    """(N, N) which positions share a cluster."""
    return (labels[:, None] == labels[None]) & (labels >= 0)[:, None]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.02, 0.2, 2.0, 400.0]), st.integers(1, 6))
def test_clusters_are_those_of_dbscan(seed: int, radius: float, minimum: int) -> None:
    rng = np.random.default_rng(seed)
    centres = np.array([(0, 180), (90, 0), (-89.9999, 40), (43.9, 4.8), (0, -179.999)])
    positions = centres[rng.integers(0, len(centres), 60)] + rng.normal(0, radius / 150, (60, 2))
    positions[:5] = positions[5]
    positions[:, 0] = np.clip(positions[:, 0], -90, 90)
    positions[:, 1] = (positions[:, 1] + 180) % 360 - 180
    found = dense_clusters(positions, radius, minimum)
    assert np.array_equal(together(found), together(reference(positions, radius, minimum)))
    assert sorted(set(found.tolist()) - {-1}) == list(range(found.max() + 1)), "numbered from 0"


def test_the_date_line_and_the_pole_are_places_like_any_other() -> None:
    positions = np.array([(12.0, 179.9999), (12.0, -179.9999), (12.0, 0.0), (90.0, 10.0), (89.9999, -170.0)])
    assert dense_clusters(positions, 0.1, 2).tolist() == [0, 0, -1, 1, 1]
    assert distances_km(positions[:1], positions[1:2])[0] == pytest.approx(0.02175, rel=1e-3)
    latitude, longitude = centre_of(positions[:2])
    assert (latitude, abs(longitude)) == pytest.approx((12.0, 180.0))
    around = np.array([(89.9999, 0), (89.9999, 90), (89.9999, 180), (89.9999, -90), (-33.9, 151.2)])
    assert distances_km(np.array([centre_of(around)]), around[:1])[0] < 0.02, "one wrong position does not move it"


def test_thousands_at_one_point_are_one_cluster() -> None:
    positions = np.vstack([np.tile((43.95, 4.81), (20_000, 1)), (43.96, 4.81), (0.0, 10.0)])
    labels = dense_clusters(positions, 0.2, 3)
    assert set(labels[:-2].tolist()) == {0}
    assert labels[-2:].tolist() == [-1, -1], "one is a kilometre away, the other alone"
    assert dense_clusters(np.zeros((0, 2)), 0.2, 3).tolist() == []


@pytest.mark.parametrize(("radius", "minimum"), [(0.001, 3), (20_000, 3), (0.2, 0)])
def test_absurd_places_are_refused(radius: float, minimum: int) -> None:
    with pytest.raises(OptionError, match="radius of places"):
        dense_clusters(np.zeros((2, 2)), radius, minimum)
    with pytest.raises(OptionError, match="near and far"):
        PlaceOptions(near=0)


def test_positions_help_and_hinder_and_do_not_decide(pairs_of: Callable[..., Pairs]) -> None:
    def places(*positions: tuple[float, float]) -> Places:
        array = np.array(positions)
        near = np.array([0 if abs(latitude - 43) < 0.001 else -1 for latitude, _ in positions])
        return Places(array, near, np.ones(len(array), bool))

    def groups(pairs: Pairs, places: Places) -> list[list[int]]:
        return [sorted(group) for group in join_pairs(with_places(pairs, places, PlaceOptions())).groups]

    likely, sure = pairs_of((0, 1, 0.8)), pairs_of((0, 1, 0.95))
    assert groups(likely, places=places((43, 5), (43, 5))) == [[0, 1]]
    assert groups(sure, places=places((43, 5), (40, 5))) == [], "333 km apart"
    many = pairs_of((0, 1, 0.97), (0, 2, 0.97), (1, 2, 0.97))
    assert groups(many, places=places((43, 5), (43, 5), (40, 5))) == [[0, 1, 2]], "one wrong position"
    silent = Places(np.array([(43.0, 5), (43, 5)]), np.zeros(2, int), np.zeros(2, bool))
    assert groups(likely, places=silent) == [], "a point that a crowd shares says nothing"
