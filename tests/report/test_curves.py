"""Pictures of curves."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delf.errors import DelfError, MissingDependencyError, OptionError
from delf.report.curves import Panel, draw_panels, require_picture

PANELS = [Panel("one", "right", "precision", {"a": ([1, 2, 3], [1.0, 0.5, 0.4]), "b": (np.arange(2), np.ones(2))}),
          Panel("nothing", "x", "y", {})]


def test_a_picture_has_the_curves_and_their_names(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_panels(tmp_path / "c.SVG", PANELS)
    text = (tmp_path / "c.SVG").read_text()
    assert {"one", "nothing", "right", "precision", "a", "b", "x", "y"} <= set(re.findall(r"<!-- (\w+) -->", text))
    draw_panels(tmp_path / "again.svg", PANELS)
    assert (tmp_path / "again.svg").read_text() == text, "the same curves, the same bytes"
    draw_panels(tmp_path / "c.png", PANELS)
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 2 * picture.size[1]
        colours = {tuple(colour) for colour in np.asarray(picture)[:, :, :3].reshape(-1, 3).tolist()}
    assert {(31, 119, 180), (255, 127, 14)} <= colours, "two lines, each in its own colour"


def test_pictures_that_cannot_be_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"\.png or \.svg, not as 'c\.gif'"):
        require_picture("c.gif")
    pytest.importorskip("matplotlib")
    with pytest.raises(DelfError, match="nowhere"):
        draw_panels(tmp_path / "nowhere" / "c.svg", PANELS)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"a picture of curves needs .*'delf-retrieval\[plot\]'"):
        require_picture("c.svg")
