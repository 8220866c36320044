"""`delf index --watch`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from delf.collection import AddReport, Collection


def test_what_changes_is_added_until_ctrl_c(delf: Any, draw: Callable[..., Path], tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    folder = draw("photos/a.png", 1).parent

    def watch(collection: Collection, photos: list[Path], **options: Any) -> Iterator[AddReport]:
        assert (photos, options["exclude"]) == ([folder], ["*.gif"])
        yield AddReport(0, 1, 0, (), False)  # as it was found: nothing is said
        draw("photos/b.png", 2)
        yield collection.add(photos)
        raise KeyboardInterrupt

    monkeypatch.setattr("delf.watching.watch", watch)
    done = delf("index", folder, "-o", tmp_path / "places.delf", "--extractor", "rootsift", "--exclude", "*.gif",
                "--watch")
    first, second = done.ok().splitlines()
    assert "1 photo added, 0 unchanged, 0 exact copies; now 1 image" in first
    assert "1 photo added, 1 unchanged, 0 exact copies; now 2 images" in second
    assert "press Ctrl-C to end" in done.err
