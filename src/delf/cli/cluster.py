"""What the commands do with a store, which several machines make and read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from delf.cli.console import counted, print_json, progress, report_passed_over, report_skipped, say, stdout_for_results
from delf.cli.options import extraction_options, load_any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delf.cluster.indexing import IndexReport
    from delf.cluster.running import ClusterOptions
    from delf.extractors import Extractor

_LoadedBy = tuple[str | None, str | None, str, str, int | None]  # extractor, model, runtime, device, threads


def is_store(place: str) -> bool:
    """Whether there is a store at a path, or something is an address, where nothing else can be."""
    from delf.cluster.locations import is_url
    from delf.cluster.manifest import NAME

    return is_url(place) or (Path(place) / NAME).is_file()


def refuse_addresses(photos: Sequence[str]) -> None:
    """Raise an `OptionError` for addresses of object storage, which a collection on this machine does not read."""
    from delf.cluster.locations import is_url
    from delf.errors import OptionError

    for one in photos:
        if is_url(one) and not one.lower().startswith(("http://", "https://")):
            raise OptionError(f"{one} is an address of object storage: photos there are read into a store, by --ray "
                              "local and -o with the name of a new one")


def index_into_store(place: str, photos: Sequence[str], exclude: Sequence[str], storage: str | None, ray: str | None,
                     refused: dict[str, bool], settings: list[str] | None, loaded_by: _LoadedBy, *, strict: bool,
                     json: bool, quiet: bool, **named: Any) -> None:
    """`delf index` into a store.

    Args:
        refused: options that have no meaning there, and whether they were given. settings, named: options of
            extraction, and of `ClusterOptions` as cluster.piece=256.
    """
    from delf.cluster.connecting import require_address
    from delf.cluster.indexing import index_photos
    from delf.errors import OptionError

    for name in [name for name, was_given in refused.items() if was_given]:
        raise OptionError(f"{name} applies to collections only, and {place} is a store: leave it out")
    if ray is None:
        raise OptionError(f"{place} is a store: say which cluster indexes into it, such as --ray local")
    require_address(ray)
    extraction, options = _options(settings, loaded_by, named)
    own, model, runtime, device, _ = loaded_by
    # The workers load the model on the device, which this machine need not have: here it is loaded for its options.
    extractor = _extractor(place, (own, model, runtime, device if own else "cpu", options.cores), quiet or json,
                           extraction)
    with progress("Extracting", "photos", quiet or json) as update, stdout_for_results():
        report = index_photos(photos, place, extractor, address=ray, storage=storage, exclude=exclude, options=options,
                              progress=update)
    _print_indexed(place, report, json)
    report_passed_over(report.passed_over, quiet)
    for sentence in report.faults:
        say(f"{sentence}.", quiet)
    report_skipped(report.skipped, strict and not report.interrupted)
    if report.interrupted:
        say("The photos listed above are published; run the same command to continue.")
        raise typer.Exit(130)


def _options(settings: list[str] | None, loaded_by: _LoadedBy,
             named: dict[str, Any]) -> tuple[dict[str, Any], ClusterOptions]:
    """The options of extraction, and those of the cluster. Unless the device is the CPU, each worker takes a GPU."""
    from delf.cluster.running import ClusterOptions
    from delf.errors import OptionError
    from delf.settings import part_of, with_settings

    details = named.pop("details")
    extraction, others = extraction_options(settings, **named)
    if details is not None:
        extraction["details"] = details or None
    cluster, others = part_of(others, "cluster")
    if others:
        raise OptionError(f"there is no option {next(iter(others))} here: this command takes options of extraction, "
                          "such as extraction.max_image_size=640, and of the cluster, such as cluster.piece=256")
    known = ClusterOptions(cores=loaded_by[4] or 1, gpus=float(loaded_by[3] != "cpu"), device=loaded_by[3])
    return extraction, with_settings(known, cluster)


def _extractor(place: str, loaded_by: _LoadedBy, quiet: bool, extraction: dict[str, Any]) -> Extractor:
    """The extractor that the user names, or else that of the store, with its options."""
    from delf.cluster import Store
    from delf.features import EXTRACTORS, load_shipped, load_stored

    own, model, runtime, device, threads = loaded_by
    if not Store.exists(place):
        return load_any(own, model, runtime, device, threads, quiet, **extraction)
    about, folder = Store.open(place).manifest.about, Path(place)
    if own in EXTRACTORS and about["model"]["name"] == own:
        return load_shipped(about, folder, threads=threads, **extraction)
    if own is not None or extraction:
        return load_any(own, model, runtime, device, threads, quiet, **extraction)
    return load_stored(about, folder, model=model, runtime=runtime, device=device, threads=threads)


def _print_indexed(place: str, report: IndexReport, json: bool) -> None:
    from delf.cluster import Store
    from delf.images import display_path

    manifest = Store.open(place).manifest
    if json:
        print_json({"store": place, "version": manifest.version, "added": report.added, "unchanged": report.unchanged,
                    "duplicates": report.duplicates, "skipped": list(report.skipped), "faults": list(report.faults),
                    "pieces": report.pieces, "pieces_before": report.before, "raw": report.passed_over.raw,
                    "videos": report.passed_over.videos, "images": manifest.images, "features": manifest.features})
        return
    before = f", {counted(report.before, 'piece')} done before" if report.before else ""
    print(f"{display_path(place)}: {counted(report.added, 'photo')} added, {report.unchanged:,} unchanged, "
          f"{report.duplicates:,} exact {'copy' if report.duplicates == 1 else 'copies'}{before}; version "
          f"{manifest.version} has {counted(manifest.images, 'image')} with {counted(manifest.features, 'feature')}")


def store_info(place: str, json: bool) -> None:
    """`delf info` of a store."""
    from delf.cluster import Store
    from delf.images import display_path, printable

    manifest = Store.open(place).manifest
    storage = str((manifest.storage or {}).get("kind", "full"))
    words = None if manifest.words is None else {"name": manifest.words.name, "sha256": manifest.words.sha256}
    if json:
        print_json({"store": place, "version": manifest.version, "images": manifest.images,
                    "features": manifest.features, "segments": len(manifest.segments), "storage": storage,
                    "bytes": manifest.total_bytes, "words": words, "model": dict(manifest.model),
                    "options": dict(manifest.options), "dropped": len(manifest.dropped)})
        return
    print(f"{display_path(place)}: a store, version {manifest.version}: {counted(manifest.images, 'image')}, "
          f"{counted(manifest.features, 'feature')} in {counted(len(manifest.segments), 'segment')}")
    print(printable(f"model    {manifest.model['name']} ({manifest.model['fingerprint'][:12]})"))
    print(printable("options  " + ", ".join(f"{key}={value}" for key, value in manifest.options.items())))
    print(f"storage  {storage}")
    print(f"words    {'those of the model' if words is None else words['name']}")
    print(f"bytes    {manifest.total_bytes:,} in all, {manifest.total_bytes // max(1, manifest.images):,} an image")


def remove_from_store(place: str, photos: Sequence[str], json: bool) -> None:
    """`delf remove` from a store."""
    from delf.cluster import Store, remove
    from delf.images import display_path

    store = Store.open(place)
    with progress("Looking", "segments", json) as update:
        removed = remove(store, photos, progress=update)
    if json:
        print_json({"store": place, "version": store.manifest.version, "removed": removed,
                    "images": store.manifest.images})
    else:
        print(f"{display_path(place)}: {counted(removed, 'file')} removed, version {store.manifest.version} has "
              f"{counted(store.manifest.images, 'image')}; 'delf compact' frees the space")


def compact_store(place: str, grace_hours: float, json: bool, quiet: bool) -> None:
    """`delf compact` of a store."""
    from delf.cluster import Store, compact
    from delf.images import display_path

    store = Store.open(place)
    with progress("Merging", "segments", quiet or json) as update:
        report = compact(store, grace=grace_hours * 3600, progress=update)
    if json:
        print_json({"store": place, "version": store.manifest.version, "images": report.images,
                    "segments": report.segments, "deleted": report.deleted, "waiting": report.waiting})
    else:
        print(f"{display_path(place)}: {counted(report.images, 'removed image')} dropped, "
              f"{counted(report.segments, 'segment')} less; {counted(report.deleted, 'file')} or folders deleted that "
              f"nothing named any more, {report.waiting:,} wait until {grace_hours:g} hours have passed")
