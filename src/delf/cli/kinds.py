"""What `delf index` takes beside files of pictures: videos, and archives on the web."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from delf.cli.console import progress

if TYPE_CHECKING:
    from delf.collection import AddReport, Collection
    from delf.iiif import IiifOptions
    from delf.images import VideoOptions

_Options = TypeVar("_Options")


def video_settings(settings: list[str] | None) -> tuple[list[str], VideoOptions | bool]:
    """The settings without those of videos, and what these say; True where they say nothing."""
    from delf.images import VideoOptions

    rest, options = _settings_of("video", VideoOptions(), settings)
    return rest, options if len(rest) < len(settings or ()) else True


def iiif_settings(settings: list[str] | None) -> tuple[list[str], IiifOptions]:
    """The settings without those of IIIF, and what these say."""
    from delf.iiif import IiifOptions

    return _settings_of("iiif", IiifOptions(), settings)


def _settings_of(place: str, options: _Options, settings: list[str] | None) -> tuple[list[str], _Options]:
    from delf.settings import parse_settings, part_of, with_settings

    words = [word for word in settings or () if word.strip().startswith(f"{place}.")]
    values, _ = part_of(parse_settings(words), place)
    return [word for word in settings or () if word not in words], with_settings(options, values)


def paths_and_addresses(words: list[str]) -> tuple[list[Path], list[str]]:
    """The paths and the addresses of the web among the arguments, apart."""
    addresses = [word for word in words if word.lower().startswith(("http://", "https://"))]
    return [Path(word) for word in words if word not in addresses], addresses


def fetched(collection: Collection, addresses: list[str], options: IiifOptions, before: AddReport,
            quiet: bool) -> AddReport:
    """Add the pictures of IIIF manifests; what was done, together with what was done before."""
    from delf.iiif import add_manifests

    with progress("Fetching", "pictures", quiet) as update:
        report = add_manifests(collection, addresses, options=options, progress=update)
    return replace(before, added=before.added + report.added, unchanged=before.unchanged + report.unchanged,
                   duplicates=before.duplicates + report.duplicates, skipped=(*before.skipped, *report.skipped),
                   interrupted=report.interrupted)
