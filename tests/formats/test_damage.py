"""Bytes that were cut, changed, or never were features: an answer in words, or features that keep the conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delf.errors import DelfError
from delf.formats import FORMATS, read_features, write_features

from .conftest import make_features, skip_without

SUFFIXES = [suffix for suffix in FORMATS if suffix != ".delg_local"]


@pytest.fixture(scope="module", params=SUFFIXES)
def sound(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    skip_without(request.param)
    path = tmp_path_factory.mktemp("sound") / f"sound{request.param}"
    write_features(path, make_features(5, 4))
    return path


def read_strange(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        features = read_features(path)
    except DelfError as error:
        assert path.name in str(error)
    else:
        arrays = (features.keypoints, features.scales, features.scores, features.descriptors)
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in arrays)


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 5))):
        start = draw(st.integers(0, len(changed)))
        stop = start + draw(st.integers(0, 9))
        changed[start:stop] = draw(st.binary(max_size=9) | st.just(b"\xff" * 8))
    return bytes(changed[:draw(st.just(None) | st.integers(0, len(changed)))])


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_damaged_files(sound: Path, data: st.DataObject) -> None:
    read_strange(sound.with_stem("damaged"), data.draw(damaged(sound.read_bytes())))


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_other_bytes(sound: Path, content: bytes) -> None:
    read_strange(sound.with_stem("other"), content)


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_damaged_files_of_the_reference(parity: Path, tmp_path_factory: pytest.TempPathFactory,
                                        data: st.DataObject) -> None:
    content = (parity / "features" / "oriented.delf").read_bytes()
    read_strange(tmp_path_factory.getbasetemp() / "reference.delf", data.draw(damaged(content)))


def test_every_cut(sound: Path) -> None:
    content = sound.read_bytes()
    for length in range(0, len(content), max(1, len(content) // 300)):
        read_strange(sound.with_stem("cut"), content[:length])
