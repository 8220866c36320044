"""Reading files that strangers wrote: every failure is an `EvaluationError` that names the file."""

from __future__ import annotations

import json
import reprlib
from os import PathLike
from pathlib import Path

from delf.errors import EvaluationError

AnyPath = str | PathLike[str]

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: object) -> str:
    """`value` as an error sentence may show it: on one line, and short whatever it is."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return f"a {type(value).__name__} too long to show"


def read_bytes(path: AnyPath) -> bytes:
    """The bytes of a regular file (a pipe or a device could keep the reader for ever).

    Raises EvaluationError where there is no such file or it cannot be read.
    """
    try:
        if not Path(path).is_file():
            raise EvaluationError(f"There is no file {shown(str(path))}: check the path.")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise EvaluationError(f"Cannot read {shown(str(path))}: {error}.") from error


def parse_json_object(data: bytes, path: AnyPath) -> dict[str, object]:
    """The JSON object in `data`, which came from `path`. Raises EvaluationError where it is anything else."""
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise EvaluationError(f"{path} is not usable: its JSON is nested too deeply.") from error
    except (ValueError, MemoryError) as error:
        raise EvaluationError(f"{path} is not valid JSON ({error}): it may be cut off or of another "
                              "format.") from error
    if not isinstance(value, dict):
        raise EvaluationError(f"{path} must hold a JSON object, not a {type(value).__name__}.")
    return value
