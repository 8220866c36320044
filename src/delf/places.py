"""Where a picture is, beside in a file: in a video at a second, or in an archive on the web."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

LINKS = ("canvas", "manifest", "image")


def source_of(file: str | PathLike[str], second: float | None) -> str:
    """What a photo is read from: its file; or, for a frame of a video, the name that the frame has by its second, as
    media fragments are on the web (W3C, 2012).
    """
    return fspath(file) if second is None else f"{fspath(file)}#t={second:.3f}"


def links_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The addresses of a picture of an archive, which its metadata have: of canvas, manifest and image."""
    links = metadata.get("iiif")
    if not isinstance(links, Mapping):
        return {}
    return {what: links[what] for what in LINKS
            if isinstance(links.get(what), str) and links[what].startswith(("http://", "https://"))}
