"""What a client is told when something goes wrong: a status, a code for programs and a sentence for people."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from delf.errors import CollectionError, DelfError, ImageError, OptionError

_ADVICE = re.compile(r",? or raise max_\w+")  # which a client cannot follow


class Problem(DelfError):
    """An error that is answered with its own status. headers: that go with it."""

    def __init__(self, status: int, code: str, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.code, self.headers = status, code, dict(headers or {})


class ClientGone(Exception):
    """The client has closed the connection, so that no answer is wanted any more."""


def busy(sentence: str, seconds: float) -> Problem:
    """The service cannot answer now; seconds: after which it is worth asking again."""
    return Problem(503, "busy", sentence, {"Retry-After": str(max(1, math.ceil(seconds)))})


def too_many(sentence: str, seconds: float) -> Problem:
    """More is asked of the service than it takes on; seconds: after which it is worth asking again."""
    return Problem(429, "full", sentence, {"Retry-After": str(max(1, math.ceil(seconds)))})


def not_found(sentence: str) -> Problem:
    """There is no such thing."""
    return Problem(404, "not_found", sentence)


def removed(sentence: str) -> Problem:
    """There was such a thing."""
    return Problem(410, "removed", sentence)


def problem_of(error: DelfError) -> Problem:
    """The answer to an error of the library."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ImageError):
        return Problem(422, "image", _ADVICE.sub("", str(error)))
    if isinstance(error, OptionError):
        return Problem(422, "option", str(error))
    if isinstance(error, CollectionError):
        return Problem(409, "collection", str(error))
    return Problem(500, "internal", str(error))


def as_json(code: str, sentence: str) -> dict[str, dict[str, str]]:
    """The body of every error."""
    return {"error": {"code": code, "message": sentence}}
