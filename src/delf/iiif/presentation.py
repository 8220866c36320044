"""What a manifest says: its canvases, each with its first picture; and what a collection names.

Version 3 (`items`) and version 2 (`sequences`, `members`) of the IIIF Presentation API. A document is a stranger's:
what is not as it should be is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from delf.images import printable

_TEXT = 300  # characters of a label
_SERVICES = ("ImageService1", "ImageService2", "ImageService3")


@dataclass(frozen=True)
class Service:
    """An image service. version: of the Image API. level: 0, 1 or 2."""

    id: str
    version: int
    level: int


@dataclass(frozen=True)
class Canvas:
    """A canvas with a picture. manifest: its address. id: of the canvas. title, label: of manifest and canvas, as
    text. image: the address of the picture as it is; service: what gives it at other sizes. size: (width, height) of
    the picture as the manifest has it, or zeros.
    """

    manifest: str
    id: str
    title: str
    label: str
    image: str
    service: Service | None
    size: tuple[int, int]

    @property
    def key(self) -> str:
        """What it is known by in a collection."""
        return f"{self.manifest}#{self.id}"

    @property
    def name(self) -> str:
        """What results show."""
        return ", ".join(part for part in (self.title, self.label) if part) or self.key


def is_collection(document: dict[str, Any]) -> bool:
    """Whether it names manifests, and has no canvases."""
    return _type(document) in ("Collection", "sc:Collection")


def is_manifest(document: dict[str, Any]) -> bool:
    """Whether it calls itself one."""
    return _type(document) in ("Manifest", "sc:Manifest")


def children(document: dict[str, Any]) -> Iterator[str]:
    """The addresses of manifests and collections that a collection names; they may be anything."""
    for part in ("items", "members", "manifests", "collections"):
        for one in _dicts(document.get(part)):
            if _type(one) in ("Manifest", "Collection", "sc:Manifest", "sc:Collection", ""):
                yield _id(one)


def pages(document: dict[str, Any]) -> list[str]:
    """The address of the page of a collection that follows: its first or next one. A long collection of version 2.1 has
    pages, each of which is a collection as well.
    """
    named = [document.get(which) for which in ("first", "next")]
    found = [one if isinstance(one, str) else _id(one) if isinstance(one, dict) else "" for one in named]
    return [address for address in found if address]


def canvases(document: dict[str, Any], manifest: str) -> Iterator[Canvas]:
    """The canvases of a manifest that have a picture, in order. manifest: the address that it came from."""
    title = _text(document.get("label"))
    listed = _dicts(document.get("items"))
    for sequence in _dicts(document.get("sequences"))[:1]:  # the others are other orders of the same
        listed += _dicts(sequence.get("canvases"))
    for canvas in listed:
        body = _picture(canvas)
        if body is not None and _id(canvas):
            yield Canvas(manifest, _id(canvas), title, _text(canvas.get("label")), _id(body), _service(body),
                         _size(body) or (0, 0))  # a canvas may be larger than the picture on it


def _picture(canvas: dict[str, Any]) -> dict[str, Any] | None:
    """What is painted on a canvas: the first picture, and of a choice the first one."""
    for page in _dicts(canvas.get("items")):
        for annotation in _dicts(page.get("items")):
            said = annotation.get("motivation")
            if said == "painting" or (isinstance(said, list) and "painting" in said):
                for body in _dicts(annotation.get("body")):
                    if (found := _chosen(body)) is not None:
                        return found
    for annotation in _dicts(canvas.get("images")):
        for body in _dicts(annotation.get("resource")):
            if (found := _chosen(body)) is not None:
                return found
    return None


def _chosen(body: dict[str, Any]) -> dict[str, Any] | None:
    for _ in range(3):  # a choice of parts of pictures, at most
        inner = [*_dicts(body.get("items")), *_dicts(body.get("default"))] if "hoice" in _type(body) else [
            *_dicts(body.get("source")), *_dicts(body.get("full"))]  # a part of a picture, in version 3 and 2
        if not inner:
            break
        body = inner[0]
    pictured = _type(body) in ("Image", "dctypes:Image") or str(body.get("format", "")).startswith("image/")
    return body if pictured and (_id(body) or _service(body)) else None


def _service(body: dict[str, Any]) -> Service | None:
    for one in _dicts(body.get("service")):
        kind, context, profile = _type(one), str(one.get("@context", "")), str(one.get("profile", ""))
        if not _id(one) or not (kind in _SERVICES or "image" in context or "image" in profile or "level" in profile):
            continue
        said = f"{kind} {context} {profile}"
        version = version_of(said) or 2
        return Service(_id(one).rstrip("/"), version, level_of(profile, 2 if version == 1 else 0))
    return None


def version_of(said: str) -> int | None:
    """Of the Image API, by what is said of a service: its type, context and profile; None where that does not tell."""
    if "ImageService3" in said or "/image/3/" in said:
        return 3
    if "ImageService1" in said or "/image-api/1." in said or "image-api/compliance" in said:
        return 1
    return 2 if "ImageService2" in said or "/image/2/" in said else None


def level_of(profile: str, usual: int) -> int:
    """0, 1 or 2: how much of the Image API a service does. usual: where it does not say."""
    return next((level for level in (2, 1, 0) if f"level{level}" in profile), usual)


def _size(thing: dict[str, Any]) -> tuple[int, int] | None:
    width, height = thing.get("width"), thing.get("height")
    return (width, height) if is_side(width) and is_side(height) else None


def is_side(value: Any) -> TypeGuard[int]:
    """Whether something is a number of pixels that a picture may have."""
    return type(value) is int and 0 < value < 1 << 20


def _dicts(value: Any) -> list[dict[str, Any]]:
    """The objects in a list, or the only one."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _type(thing: dict[str, Any]) -> str:
    found = thing.get("type", thing.get("@type", ""))
    if isinstance(found, list):  # as JSON-LD allows
        found = next((one for one in found if isinstance(one, str)), "")
    return found if isinstance(found, str) else ""


def _id(thing: dict[str, Any]) -> str:
    found = thing.get("id", thing.get("@id", ""))
    return found if isinstance(found, str) else ""


def _text(label: Any) -> str:
    """A label of either version in one line, with all that it says in one language: in English, else in none, else in
    the first one. {"en": ["Page 1"]}, {"@value": "Page 1", "@language": "en"}, "Page 1", or a list of these.
    """
    said: dict[str, list[str]] = {}
    for one in label if isinstance(label, list) else [label]:
        if isinstance(one, str):
            said.setdefault("none", []).append(one)
        elif isinstance(one, dict) and "@value" in one:
            said.setdefault(str(one.get("@language", "none")), []).append(one["@value"])
        elif isinstance(one, dict):
            for language, values in one.items():
                said.setdefault(language, []).extend(values if isinstance(values, list) else [values])
    known = {language: [one for one in values if isinstance(one, str) and one.strip()]
             for language, values in said.items()}
    chosen = next((language for language in known if language.partition("-")[0] in ("en", "eng")), "none")
    values = known.get(chosen) or next(filter(None, known.values()), [])
    text = ", ".join(values).encode("utf-8", "replace").decode()
    return printable(" ".join(text.split()))[:_TEXT]
