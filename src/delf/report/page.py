"""The parts that every page of a report has: one HTML file that needs nothing else, and loads nothing.

A page is text that encodes as UTF-8, has no script, and holds its style and its pictures; its policy forbids the rest.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from importlib import resources

import cv2

from delf.report.evidence import printable
from delf.types import ImageArray

LONGEST_NAME = 300  # characters; the start of a longer name is cut off
GONE = "This photo cannot be shown: its file is gone or cannot be read."
LEFT_OUT = "Picture left out to keep this page small."
QUALITY = 80  # of the JPEG files


def document(title: str, header: str, sections: Sequence[str]) -> str:
    """A whole page. header, sections: HTML."""
    style = resources.files("delf.report").joinpath("report.css").read_text(encoding="utf-8")
    return lines(
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        f"<title>{text(title)}</title>",
        f"<style>\n{style}</style>",
        "</head>",
        "<body>",
        header,
        "<main>",
        *sections,
        "</main>",
        "</body>",
        "</html>",
        "",
    )


class Pictures:
    """Pictures as data URIs, until their bytes are used up."""

    def __init__(self, allowed: int) -> None:
        self.left = allowed

    def embed(self, image: ImageArray, longest: int) -> str | None:
        """The image as the data URI of a JPEG without metadata, or None where there is no room left for it."""
        uri = data_uri(image, longest)
        if len(uri) > self.left:
            return None
        self.left -= len(uri)
        return uri


def data_uri(image: ImageArray, longest: int) -> str:
    """An image as the data URI of a JPEG without metadata, its longest side at most so many pixels."""
    height, width = image.shape[:2]
    factor = min(1.0, longest / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode("ascii")


def size_of(image: ImageArray) -> tuple[int, int]:
    """(width, height)."""
    return image.shape[1], image.shape[0]


def tail(path: str) -> str:
    """The last part of a path."""
    return path.rstrip("/").rsplit("/", 1)[-1] or path


def text(value: str) -> str:
    """Text from outside, safe in an element and in a quoted attribute."""
    line = printable(value)
    return escape(line if len(line) <= LONGEST_NAME else "…" + line[-LONGEST_NAME:], quote=True)


def lines(*parts: str) -> str:
    """The parts that are not empty, one a line."""
    return "\n".join(part for part in parts if part)
