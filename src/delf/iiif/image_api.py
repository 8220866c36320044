"""A copy of bounded size of a picture, as the IIIF Image API names it: `{service}/full/800,/0/default.jpg`."""

from __future__ import annotations

from typing import Any

from delf.datasets.registry import DatasetError
from delf.iiif.fetching import checked
from delf.iiif.presentation import Canvas, Service
from delf.images import limit_size


def bounded(canvas: Canvas, side: int) -> str | None:
    """The address of a picture with no more than `side` pixels, by what the manifest says alone; None where the service
    is to be asked what it has. A picture without a service is there as it is.
    """
    service = canvas.service
    if service is None:
        return checked(canvas.image)
    width, height = canvas.size
    if not service.level or not width:
        return None
    small, _ = limit_size(width, height, side)
    return _address(service, _whole(service) if small == width else f"{small},")


def of_what_there_is(service: Service, info: dict[str, Any], side: int) -> str:
    """The same by what the service says of itself (`info.json`): the largest of its sizes that fits, or else the
    smallest.

    Raises:
        DatasetError: it does not say how large the picture is.
    """
    listed = [(one["width"], one["height"]) for one in info.get("sizes") or [] if isinstance(one, dict)
              and all(isinstance(one.get(key), int) and 0 < one[key] < 1 << 20 for key in ("width", "height"))]
    fitting = [size for size in listed if max(size) <= side]
    width, height = info.get("width"), info.get("height")
    if fitting or listed:
        width, height = max(fitting) if fitting else min(listed)
        return _address(service, f"{width},{height}" if service.version == 3 else f"{width},")
    if not (isinstance(width, int) and isinstance(height, int) and 0 < width < 1 << 20 and 0 < height < 1 << 20):
        raise DatasetError(f"{service.id}/info.json does not say how large the picture is")
    if max(width, height) <= side or "level0" in str(info.get("profile", "")):
        return _address(service, _whole(service))
    return _address(service, f"{limit_size(width, height, side)[0]},")


def _whole(service: Service) -> str:
    return "max" if service.version == 3 else "full"


def _address(service: Service, size: str) -> str:
    return checked(f"{service.id}/full/{size}/0/{'native' if service.version == 1 else 'default'}.jpg")
