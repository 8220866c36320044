"""What EXIF says of a photo: which way up, when, where. Hostile EXIF says nothing; it never raises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from PIL import ExifTags, Image

from delf.images.paths import printable

_DATE = re.compile(r"([0-9]{4}):([0-9]{2}):([0-9]{2}) ([0-9]{2}:[0-9]{2}:[0-9]{2})")
_PREVIEW = re.compile(r"delf preview of ([0-9]{1,6})x([0-9]{1,6})")
_ISO_6709 = re.compile(r"([+-][0-9]{2}(?:\.[0-9]{1,9})?)([+-][0-9]{3}(?:\.[0-9]{1,9})?)")
_XMP_KEYS = {"XML:com.adobe.xmp", "xmp"}
_HEMISPHERES = {"N": 1, "S": -1, "E": 1, "W": -1}


@dataclass(frozen=True)
class ImageMetadata:
    """Size and origin of a photo.

    width, height: pixels of the upright image (the orientation has been applied). captured_at: ISO 8601 time of the
    exposure, local to the camera, with a UTC offset only where EXIF has one. latitude, longitude: degrees, north and
    east positive (WGS 84); both or neither. orientation: how the photo lies in its file, 1 to 8 as in EXIF; 1 where it
    lies upright. focal_35mm: the focal length in millimetres that has the same view on 35 mm film. camera: its maker
    and model, as one text.
    """

    width: int
    height: int
    captured_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    orientation: int = 1
    focal_35mm: float | None = None
    camera: str | None = None


def metadata_of(size: tuple[int, int], orientation: int, exif: Image.Exif) -> ImageMetadata:
    """The metadata of a picture that is stored with this (width, height), orientation and EXIF."""
    width, height = size
    if orientation >= 5:  # turned by a quarter
        width, height = height, width
    latitude, longitude = _position(_tags(exif, ExifTags.IFD.GPSInfo))
    details = _tags(exif, ExifTags.IFD.Exif)
    return ImageMetadata(width, height, _capture_time(details), latitude, longitude, orientation, _focal(details),
                         _camera(exif))


def parsed_exif(data: bytes) -> Image.Exif:
    """EXIF as Pillow reads it; what is damaged is left out."""
    exif = Image.Exif()
    with suppress(Exception):  # damaged EXIF fails in as many ways as there are types
        exif.load(data)
    return exif


def as_preview(size: tuple[int, int]) -> Image.Exif:
    """The EXIF that a reduced copy is written with, which says of what (width, height) its original is."""
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = f"delf preview of {size[0]}x{size[1]}"
    return exif


def previewed(exif: Image.Exif) -> tuple[int, int] | None:
    """The (width, height) that `as_preview` has written; None for any other picture."""
    with suppress(Exception):
        found = _PREVIEW.fullmatch(str(exif.get(ExifTags.Base.Software)))
        return None if found is None else (int(found[1]), int(found[2]))
    return None


def orientation_of(exif: Image.Exif) -> int:
    """The orientation that EXIF has for the picture itself, 1 to 8; 1 (upright) where there is none that makes sense.

    What XMP says is not asked: browsers and OpenCV do not, and it is often left over from another version of the
    picture.
    """
    with suppress(Exception):
        value = exif.get(ExifTags.Base.Orientation)
        if isinstance(value, int) and 1 <= value <= 8:
            return value
    return 1


def pillow_orientation(image: Image.Image) -> int:
    """The orientation that is still to be applied to a picture that the caller opened, or made, with Pillow."""
    if image.format == "TIFF":  # which Pillow turns while loading
        return 1
    plain = Image.Image()  # the same without XMP, to which Pillow resorts where EXIF has no orientation
    plain.info = {key: value for key, value in image.info.items() if key == "exif"}
    with suppress(Exception):
        if ExifTags.Base.Orientation in plain.getexif() or not _XMP_KEYS & image.info.keys():
            return orientation_of(image.getexif())
    return 1


def _tags(exif: Image.Exif, directory: ExifTags.IFD) -> Mapping[int, Any]:
    try:
        return dict(exif.get_ifd(directory))
    except Exception:  # as above
        return {}


def _capture_time(exif: Mapping[int, Any]) -> str | None:
    original = _iso_time(exif.get(ExifTags.Base.DateTimeOriginal), exif.get(ExifTags.Base.OffsetTimeOriginal))
    return original or _iso_time(exif.get(ExifTags.Base.DateTimeDigitized),
                                 exif.get(ExifTags.Base.OffsetTimeDigitized))


def _iso_time(date: object, offset: object) -> str | None:
    found = _DATE.match(date) if isinstance(date, str) else None
    if found is None:
        return None
    year, month, day, time = found.groups()
    for zone in (str(offset).strip(" \0"), ""):
        with suppress(ValueError):
            return datetime.fromisoformat(f"{year}-{month}-{day}T{time}{zone}").isoformat()
    return None


def _focal(exif: Mapping[int, Any]) -> float | None:
    with suppress(Exception):
        millimetres = float(exif[ExifTags.Base.FocalLengthIn35mmFilm])
        if 1 <= millimetres <= 10_000:
            return millimetres
    return None


def _camera(exif: Image.Exif) -> str | None:
    """Maker and model; cameras whose model begins with the maker's name have it once."""
    with suppress(Exception):
        maker, model = (printable(str(exif.get(tag) or "").partition("\0")[0]).strip()[:100]
                        for tag in (ExifTags.Base.Make, ExifTags.Base.Model))
        return _named_once(maker, model)
    return None


def _named_once(maker: str, model: str) -> str | None:
    first = maker.partition(" ")[0].lower()
    return (model if first and model.lower().startswith(first) else f"{maker} {model}").strip() or None


def _position(gps: Mapping[int, Any]) -> tuple[float, float] | tuple[None, None]:
    latitude = _degrees(gps.get(ExifTags.GPS.GPSLatitude), gps.get(ExifTags.GPS.GPSLatitudeRef), "NS", 90)
    longitude = _degrees(gps.get(ExifTags.GPS.GPSLongitude), gps.get(ExifTags.GPS.GPSLongitudeRef), "EW", 180)
    if latitude is None or longitude is None or latitude == longitude == 0:  # zeros: a receiver without a fix
        return None, None
    return latitude, longitude


def _degrees(angle: Any, reference: Any, letters: str, largest: int) -> float | None:
    """Degrees from the three rationals of EXIF (degrees, minutes, seconds) and the letter of the
    hemisphere.
    """
    try:
        degrees, minutes, seconds = (float(part) for part in angle)
        letter = reference.strip(" \0").upper()
    except Exception:  # wrong types, wrong counts, numbers too large for a float
        return None
    value = degrees + minutes / 60 + seconds / 3600
    if letter not in tuple(letters) or not (degrees >= 0 and 0 <= minutes <= 60 and 0 <= seconds <= 60
                                            and value <= largest):  # NaN (a zero denominator) fails too
        return None
    return _HEMISPHERES[letter] * value


def film_metadata(size: tuple[int, int], tags: Mapping[str, str], second: float) -> ImageMetadata:
    """The metadata of a frame of a video. size: (width, height), upright. tags: of the file. second: of the frame."""
    known = {key.lower(): printable(str(value)).strip() for key, value in tags.items()}
    apple = "com.apple.quicktime."
    maker, model = (known.get(f"{apple}{one}") or known.get(f"com.android.{other}") or known.get(one) or ""
                    for one, other in (("make", "manufacturer"), ("model", "model")))
    latitude, longitude = _film_position(known.get(f"{apple}location.iso6709") or known.get("location") or "")
    return ImageMetadata(*size, _film_time(known.get(f"{apple}creationdate") or known.get("creation_time"), second),
                         latitude, longitude, camera=_named_once(maker[:100], model[:100]))


def _film_time(text: str | None, second: float) -> str | None:
    """When a frame was taken; what counts from 1904 or 1970 and was not set says nothing."""
    with suppress(ValueError, OverflowError):
        begun = datetime.fromisoformat(text or "")
        if begun.year > 1970:
            return (begun + timedelta(seconds=int(second))).replace(microsecond=0).isoformat()
    return None


def _film_position(text: str) -> tuple[float, float] | tuple[None, None]:
    """The degrees in a text such as +41.8902+012.4922+035.000/ (ISO 6709)."""
    found = _ISO_6709.match(text)
    if found is None:
        return None, None
    latitude, longitude = float(found[1]), float(found[2])
    if abs(latitude) > 90 or abs(longitude) > 180 or latitude == longitude == 0:
        return None, None
    return latitude, longitude
