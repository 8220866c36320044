"""`delf index`: photos into a collection, or with Ray into a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from delf.cli.console import counted, print_json, progress, report_passed_over, report_skipped, say
from delf.cli.kinds import fetched, iiif_settings, paths_and_addresses, video_settings
from delf.cli.options import (
    MODEL,
    Details,
    Device,
    Dimensions,
    Exclude,
    Json,
    MaxFeatures,
    Own,
    Quiet,
    RayAddress,
    Runtime,
    Settings,
    Strict,
    Threads,
    load_any,
    load_stored_extractor,
    only_extraction,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from delf.collection import AddReport, Collection
    from delf.extractors import Extractor
    from delf.images import VideoOptions


def index(
    output: Annotated[str, typer.Option("--output", "-o", metavar="COLLECTION", help=
        "Make this collection, or add to it; photos that it has already are left as they are. With --ray, make or "
        "extend a store at this path or address, such as s3://BUCKET/places.store.")],
    photos: Annotated[list[str] | None, typer.Argument(metavar="PHOTOS", help="Read these files, and all photos in "
                                                                              "these folders; addresses of IIIF "
                                                                              "manifests (https://...) are read as "
                                                                              "well, and with --ray, addresses of "
                                                                              "object storage.")] = None,
    model: Annotated[str | None, typer.Option(help="Use this model: the name of a packaged one, a .safetensors or "
                                              ".onnx file, a folder that holds one, or hub:OWNER/NAME. By default the "
                                              f"collection's own is used, and {MODEL} for a new one and with "
                                              "--renew.")] = None,
    extractor: Own = None, dimensions: Dimensions = None, max_features: MaxFeatures = None, details: Details = None,
    settings: Settings = None,
    exclude: Exclude = None,
    prune: Annotated[bool, typer.Option("--prune", help="Forget photos below PHOTOS whose files are gone; with "
                                                        "--renew, forget all photos of the collection whose files are "
                                                        "gone.")] = False,
    renew: Annotated[bool, typer.Option("--renew", help="Read all photos of the collection again with this model and "
                                                        "these options, and replace its features. PHOTOS are not "
                                                        "needed. Meanwhile the collection takes about twice the room "
                                                        "on the disk.")] = False,
    storage: Annotated[str | None, typer.Option(help="Store features in full (about 190 kB a photo) or in compact "
                                                     "form (under 30 kB), which suits large collections: it keeps "
                                                     "fewer features, as visual words and signs, and no details. A "
                                                     "new collection is full by default, and an existing one stays as "
                                                     "it is; --renew can change it.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running until Ctrl-C, and add, move and forget photos "
                                                        "as the folders change.")] = False,
    kind: Annotated[str | None, typer.Option("--index", help="Build this index: auto, exact, ivfpq, or lopq, the "
                                                             "index of the paper, which finds more with as many bits "
                                                             "and takes longer. A new collection uses auto by "
                                                             "default, and an existing one keeps its kind.")] = None,
    ray: RayAddress = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None,
    strict: Strict = False, json: Json = False, quiet: Quiet = False,
) -> None:
    """Index photos: extract their features into a collection that can be searched.

    Run the command again to add what is new or has changed. You may interrupt it at any time.

    It passes over thumbnails and bins that photo programs and network storages keep. It reads RAW files of cameras if
    the extra 'raw' is installed, and videos if 'video' is: of a video, each frame in which the view has become another
    one, and one every ten seconds otherwise.

    With --renew, the features of a collection are replaced by those of another model or of other options. Until all
    photos are done, the collection is searched as before.

    Example: [bold]delf index ~/Pictures -o places.delf --exclude '*.gif'[/bold]

    Example: [bold]delf index -o places.delf --renew --model delf-r18[/bold]

    Example: [bold]delf index ~/Pictures -o places.delf --watch[/bold]

    Example: [bold]delf index ~/Pictures -o sift.delf --extractor rootsift --set extraction.contrast=0.02[/bold]

    Example: [bold]delf index ~/Pictures -o large.delf --storage compact[/bold]

    Example: [bold]delf index s3://photos/2019 -o s3://photos/places.store --ray 10.0.0.1:6379[/bold]

    Example: [bold]delf index ~/Videos -o films.delf --set video.longest=5 --set video.most=500[/bold]

    Example: [bold]delf index https://example.org/iiif/book1/manifest.json -o archive.delf[/bold]
    """
    from delf.cli.cluster import index_into_store, is_store, refuse_addresses
    from delf.collection import STORAGES, Collection
    from delf.errors import OptionError
    from delf.images import find_images
    from delf.indexing import IndexOptions

    IndexOptions(kind=kind or "auto")  # raises for an unknown kind before anything is made
    if storage not in (None, *STORAGES):
        raise OptionError(f"the storage of a collection is {' or '.join(STORAGES)}, not {storage!r}")
    paths, addresses = paths_and_addresses(photos or [])
    _require_photos([*paths, *addresses], renew)
    if ray is not None or is_store(output):
        refused = {"--prune": prune, "--renew": renew, "--watch": watch, "--index": kind is not None}
        index_into_store(output, photos or [], exclude or (), storage, ray, refused, settings,
                         (extractor, model, runtime, device, threads), strict=strict, json=json, quiet=quiet,
                         dimensions=dimensions, max_features=max_features, details=details)
        return
    refuse_addresses(photos or [])
    folder = Path(output)
    if renew or not Collection.exists(folder):
        find_images(paths, exclude=exclude or ())  # raises for a missing file before anything is made
    settings, videos = video_settings(settings)
    settings, iiif = iiif_settings(settings)
    options = only_extraction(settings, dimensions=dimensions, max_features=max_features)
    if details is not None:
        options["details"] = details or None
    if renew:
        loaded = load_any(extractor, model, runtime, device, threads, quiet or json, **options)
        opened = Collection.open(folder)
    else:
        loaded = extractor_as_before(folder, extractor, model, runtime, device, threads, quiet or json, options)
        opened = Collection.open_or_create(folder, loaded, storage=storage)
    with opened as collection:
        with collection.writing():  # nobody else changes it until the index fits what was added
            renewed = _renewed(collection, loaded, prune, storage, json, quiet) if renew else None
            report = _added(collection, paths, prune, exclude or (), videos, json or quiet)
            if addresses and not report.interrupted:
                report = fetched(collection, addresses, iiif, report, json or quiet)
            if not report.interrupted:
                _build(collection, kind, json or quiet)
        if not report.interrupted:
            _prepare(collection, loaded, json or quiet)
        _print_added(collection, report, renewed, json)
        if watch and not report.interrupted:
            _watch(collection, paths, loaded, exclude or (), json, quiet)
    report_passed_over(report.passed_over, quiet)
    report_skipped((*(renewed.skipped if renewed else ()), *report.skipped), strict and not report.interrupted)
    if report.interrupted:
        say("What is listed above is stored; run the same command to continue.")
        raise typer.Exit(130)


def _require_photos(photos: Sequence[object], renew: bool) -> None:
    if not photos and not renew:
        raise typer.BadParameter("say which photos to index: delf index PHOTOS -o COLLECTION. Without PHOTOS, --renew "
                                 "reads those of the collection again", param_hint="PHOTOS")


def extractor_as_before(output: Path, own: str | None, model: str | None, runtime: str, device: str,
                        threads: int | None, quiet: bool, options: dict[str, Any]) -> Extractor:
    """The extractor that adds to a collection: if the user names none, the collection's own, provided that it comes
    with the package, so that a later version of delf with another default still uses it. A collection that was made
    with other options than the extractor now has keeps its options. options: those that the user gives now.
    """
    from dataclasses import asdict

    from delf.collection import Collection
    from delf.features import EXTRACTORS, Delf, stored_options
    from delf.models import is_same_model, packaged_models

    if not Collection.exists(output):
        return load_any(own, model, runtime, device, threads, quiet, **options)
    with Collection.open(output) as opened:
        name = str(opened.about["model"]["name"])
        if own is None and model is None:
            own, model = name if name in EXTRACTORS else None, name if name in packaged_models() else MODEL
        if own is not None:
            return load_stored_extractor(opened, own, model, runtime, device, threads, quiet, **options)
        extractor = load_any(None, model, runtime, device, threads, quiet, **options)
        if isinstance(extractor, Delf) and is_same_model(opened.about["model"], extractor.identity["model"]):
            return extractor.changed(**{**asdict(stored_options(opened.about, output)), **options})
    return extractor


def _renewed(collection: Collection, extractor: Extractor, prune: bool, storage: str | None, json: bool,
             quiet: bool) -> AddReport:
    """Renew a collection and say so."""
    from delf.images import display_path

    name = display_path(collection.folder)
    already = collection.snapshot.is_of(extractor) and storage in (None, collection.storage)
    with progress("Extracting", "photos", quiet or json) as update:
        report = collection.renew(extractor, progress=update, prune=prune, storage=storage)
    done = f"{counted(report.added, 'photo')} read, {report.unchanged:,} before"
    if report.interrupted:
        say(f"{name} is not renewed yet, and answers as before: {done}. Run the same command to continue.")
        raise typer.Exit(130)
    if not json:
        print(f"{name}: it has this model and these options already" if already else
              f"{name}: renewed with {collection.about['model']['name']}: {done}"
              f"{f', {report.pruned:,} gone and forgotten' if report.pruned else ''}; "
              f"now {counted(len(collection), 'image')} with {counted(collection.snapshot.kept, 'feature')}")
    return report


def _added(collection: Collection, photos: list[Path], prune: bool, exclude: Sequence[str], videos: VideoOptions | bool,
           quiet: bool) -> AddReport:
    with progress("Extracting", "photos", quiet) as update:
        return collection.add(photos, progress=update, prune=prune, exclude=exclude, videos=videos)


def _watch(collection: Collection, photos: list[Path], extractor: Extractor, exclude: Sequence[str], json: bool,
           quiet: bool) -> None:
    """Follow the folders until Ctrl-C."""
    from delf.watching import watch

    say("The folders are watched; press Ctrl-C to end this command.", quiet)
    try:
        for report in watch(collection, photos, exclude=exclude, told=say):
            if not report.interrupted and report.added + report.moved + report.pruned + report.duplicates:
                _prepare(collection, extractor, quiet=True)
                _print_added(collection, report, None, json)
                report_skipped(report.skipped, strict=False)
    except KeyboardInterrupt:
        return


def _build(collection: Collection, kind: str | None, quiet: bool) -> None:
    from delf.indexing import build_index

    with progress("Indexing", "segments", quiet) as update:
        build_index(collection, kind=kind, progress=update)


def _prepare(collection: Collection, extractor: Extractor, quiet: bool) -> None:
    """Make what the recommended method searches by."""
    from delf.search import SearchEngine

    with progress("Preparing", "segments", quiet) as update:
        SearchEngine(collection, extractor, progress=update)


def _print_added(collection: Collection, report: AddReport, renewed: AddReport | None, json: bool) -> None:
    """renewed: the report of --renew, which is printed first."""
    from delf.images import display_path

    copies = f"{report.duplicates:,} exact {'copy' if report.duplicates == 1 else 'copies'}"
    if json:
        facts = {} if renewed is None else {"renewed": renewed.added, "renewed_before": renewed.unchanged,
                                            "forgotten": renewed.pruned}
        print_json({"collection": str(collection.folder), "added": report.added, "unchanged": report.unchanged,
                    "moved": report.moved, "pruned": report.pruned, "duplicates": report.duplicates,
                    "skipped": list(report.skipped), "raw": report.passed_over.raw, "videos": report.passed_over.videos,
                    "images": len(collection), "features": collection.snapshot.kept, **facts})
    elif renewed is None or report.added + report.unchanged + report.duplicates + report.moved + len(report.skipped):
        print(f"{display_path(collection.folder)}: {counted(report.added, 'photo')} added, "
              f"{report.unchanged:,} unchanged, {copies}"
              f"{f', {report.moved:,} moved' if report.moved else ''}"
              f"{f', {report.pruned:,} gone and forgotten' if report.pruned else ''}; "
              f"now {counted(len(collection), 'image')} with {counted(collection.snapshot.kept, 'feature')}")
