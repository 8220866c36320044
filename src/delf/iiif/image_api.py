"""A copy of bounded size of a picture, as the IIIF Image API names it: `{service}/full/800,/0/default.jpg`."""

from __future__ import annotations

import math
from typing import Any

from delf.datasets.registry import DatasetError
from delf.iiif.fetching import checked
from delf.iiif.presentation import Canvas, Service, is_side, level_of, version_of
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
    """The same by what the service says of itself (`info.json`): the whole picture where that fits; a width, of a
    service that makes any size; else the largest of its sizes that fits, or the smallest.

    Raises:
        DatasetError: it does not say how large the picture is.
    """
    profile, width, height = info.get("profile"), info.get("width"), info.get("height")
    listed = [(one["width"], one["height"]) for one in _listed(info.get("sizes"))
              if is_side(one.get("width")) and is_side(one.get("height"))]
    fitting = [size for size in listed if max(size) <= side]
    service = Service(service.id, version_of(f"{info.get('@context', '')} {info.get('type', '')}") or service.version,
                      level_of(str(profile), 0 if listed else service.level))
    if is_side(width) and is_side(height):
        most = _most(info, profile, side, width / height)
        if max(max(fitting, default=(0, 0))) <= max(width, height) <= most:
            return _address(service, _whole(service))
        if service.level or "sizeByW" in f"{info.get('extraFeatures')} {profile}":
            return _address(service, f"{limit_size(width, height, most)[0]},")
    elif not listed:
        raise DatasetError(f"{service.id}/info.json does not say how large the picture is")
    if not listed:
        return _address(service, _whole(service))
    width, height = max(fitting) if fitting else min(listed)
    return _address(service, f"{width},{height}" if service.version == 3 else f"{width},")


def _most(info: dict[str, Any], profile: Any, side: int, ratio: float) -> int:
    """The longest side that may be asked for: `side`, unless the service gives less (`maxWidth`, `maxHeight`,
    `maxArea`, which version 2.1 has in its profile). ratio: of width to height.
    """
    limits = {name: one[name] for one in (*_listed(profile), info) for name in ("maxWidth", "maxHeight", "maxArea")
              if type(one.get(name)) is int and one[name] > 0}
    longer = max(ratio, 1.0)  # of the longest side to the height; to the width it is that by the ratio
    most = [float(side)]
    if "maxWidth" in limits:
        most.append(limits["maxWidth"] * longer / ratio)
        most.append(limits.get("maxHeight", limits["maxWidth"]) * longer)
    if "maxArea" in limits:
        most.append(math.sqrt(limits["maxArea"] / ratio) * longer)
    return max(1, math.floor(min(most)))


def _listed(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _whole(service: Service) -> str:
    return "max" if service.version == 3 else "full"


def _address(service: Service, size: str) -> str:
    return checked(f"{service.id}/full/{size}/0/{'native' if service.version == 1 else 'default'}.jpg")
