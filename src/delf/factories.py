"""What a user names as MODULE:FACTORY: a function or a class in a module that Python can import.

Only names that a user gives on the command line or in a call come here, never what a file says of itself.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from delf.errors import ModelError, OptionError


def imported(what: str, place: str, point: EntryPoint | None = None) -> Callable[..., Any]:
    """The function or class at a place, MODULE:FACTORY, or of an entry point.

    Args:
        what: it is, for sentences, such as "the extractor 'mine'".

    Raises:
        OptionError: there is none, or it cannot be called. ModelError: the module cannot be imported.
    """
    if point is None and not all(place.partition(":")):
        raise OptionError(f"{what} is not found: it is named as MODULE:FACTORY, a module that Python can import and a "
                          "function or a class in it")
    try:
        made = (point or EntryPoint(place, place, "")).load()
    except (ModuleNotFoundError, AttributeError) as error:
        raise OptionError(f"{what} is not found ({error}); MODULE:FACTORY names a module that Python can import, from "
                          "the current folder as well, and a function or a class in it") from error
    except Exception as error:  # someone's own code may raise anything
        raise ModelError(f"{what} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(made):
        raise OptionError(f"{what} is {type(made).__name__}, not a function or a class that makes one")
    factory: Callable[..., Any] = made
    return factory


def require_taken(what: str, factory: Callable[..., Any], given: dict[str, Any]) -> None:
    """Raise an `OptionError` where a factory does not take what it is about to be given."""
    try:
        inspect.signature(factory).bind(**given)
    except TypeError as error:
        raise OptionError(f"{what} does not take these options: {error}") from error
    except ValueError:  # of a compiled one, which says so itself
        return


@contextmanager
def current_folder() -> Iterator[None]:
    """Modules of the current folder can be imported, after all others."""
    folder = str(Path.cwd())
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
