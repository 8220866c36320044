"""What is refused wherever it can be given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delf.client import Client
from delf.collection import Collection
from delf.errors import OptionError
from delf.evaluate import answer_all
from delf.images import read_image
from delf.search import SearchEngine
from delf.types import require_top


@pytest.mark.parametrize("top", [0, -1, 1.5, True, "3", np.int64(0)])
def test_what_is_no_number_of_results(top: Any, tmp_path: Path, stub: Any, draw: Callable[..., Path]) -> None:
    """Before the photo is looked at, or a service asked."""
    with Collection.create(tmp_path / "c", stub) as collection:
        engine, features = SearchEngine(collection, stub), stub.extract(read_image(draw("2.png", 2)))
        for ask in (partial(engine.search, "no such photo.png"), partial(engine.search_features, features),
                    partial(answer_all, [], features), partial(Client("http://127.0.0.1:1").search, "no photo.png")):
            with pytest.raises(OptionError, match="top is how many results are wanted, 1 or more, not"):
                ask(top=top)


@pytest.mark.parametrize("top", [1, 10, np.int64(3), None])
def test_what_is_one(top: Any) -> None:
    require_top(top)
