"""What was fitted for an extractor of someone's own: how sure a search with it may be (`delf calibrate --extractor`).

A small JSON file, that is named with the extractor (`--set extraction.probability=FILE`) and says whose it is, so that
another extractor does not use it. Features do not depend on it, and so neither do collections.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from delf.errors import ModelError
from delf.extractors import Extractor
from delf.files import write_atomically

MOST_BYTES = 100_000


@dataclass(frozen=True)
class Fitted:
    """probability, by_words: weights of the evidence, as a model carries them (`ModelConfig`); the latter empty where
    no visual words were at hand.
    """

    probability: Mapping[str, float]
    by_words: Mapping[str, float]


def write_fitted(path: Path, extractor: Extractor, fitted: Fitted) -> None:
    """Write the file of an extractor. Raises `DelfError` where it cannot be written."""
    said = {"model": extractor.identity["model"], "probability": dict(fitted.probability),
            "probability_by_words": dict(fitted.by_words)}
    write_atomically(path, (json.dumps(said, indent=1, sort_keys=True) + "\n").encode())


def read_fitted(path: Path, model: Mapping[str, str]) -> Fitted:
    """Read the file of an extractor.

    Args:
        model: name and fingerprint of the extractor that is to be judged by it (`Extractor.identity`).

    Raises:
        ModelError: it cannot be read, is no such file, or is of another extractor.
    """
    try:
        with path.open("rb") as file:
            said = json.loads(file.read(MOST_BYTES + 1)[:MOST_BYTES])
        made, found = said["model"], Fitted(said["probability"], said["probability_by_words"])
        right = all(isinstance(name, str) and isinstance(value, int | float) and math.isfinite(value)
                    for weights in (found.probability, found.by_words) for name, value in weights.items())
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); 'delf calibrate --extractor' writes such a file"
                         ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is no file that 'delf calibrate --extractor' has written, or damaged; write it again"
                         ) from error
    if not right or not isinstance(made, dict):
        raise ModelError(f"{path} holds no weights of evidence; write it again with 'delf calibrate'")
    if made != dict(model):
        raise ModelError(f"{path} was fitted for {made.get('name')!r} with the fingerprint {made.get('fingerprint')!r} "
                         f"and not for {model['name']!r} with {model['fingerprint']!r}; fit it anew with 'delf "
                         "calibrate --extractor'")
    return found
