"""`delf serve`: a collection over HTTP, with a page to look at the results."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

import typer

from delf.cli.console import counted, progress, say
from delf.cli.options import (
    Device,
    Own,
    Quiet,
    Runtime,
    Settings,
    Threads,
    given,
    load_stored_extractor,
    only_extraction,
)


def serve(
    collections: Annotated[list[str], typer.Argument(
        metavar="COLLECTION...", help="Serve the collection in this folder; if there are several, each is served "
                                      "below its name. With --ray, serve the store at this path or address.")],
    host: Annotated[str, typer.Option(help="Listen at this address; the default can only be reached from this "
                                           "computer.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Listen at this port; 0 takes any free port.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="DELF_TOKEN", show_envvar=True, help=
        "Let clients that show this token add and remove photos. Without a token nobody may.")] = None,
    uploads: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep photos that clients add in "
                                                                        "this folder.")] = None,
    root: Annotated[list[Path] | None, typer.Option(
        metavar="FOLDER", help="Let programs on this computer that show the token add photos in this folder by their "
                               "paths. You may repeat this.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Answer to this host name as well, such "
                                                                              "as that of a proxy. You may repeat "
                                                                              "this.")] = None,
    originals: Annotated[bool | None, typer.Option(
        "--originals/--no-originals", help="Give out the files of photos as they are, with all that is in them. By "
        "default they are given out only if nobody but this computer can ask: neither --host nor --allow-host is "
        "given.")] = None,
    methods: Annotated[str | None, typer.Option(metavar="NAME,...", help="Serve these search methods, the usual one "
                                                                         "first; what they need is built before the "
                                                                         "service starts. By default the recommended "
                                                                         "method is served, with all others that need "
                                                                         "nothing more.")] = None,
    share_hours: Annotated[float | None, typer.Option(
        min=0, help="Keep an uploaded query for this many hours if somebody shares a link to it, 24 by default; 0 "
                    "keeps none.")] = None,
    share_bytes: Annotated[int | None, typer.Option(
        min=1, help="Keep at most this many bytes of shared queries; 100,000,000 by default.")] = None,
    share_photos: Annotated[int | None, typer.Option(
        min=1, help="Keep at most this many shared queries, 200 by default; the oldest make room.")] = None,
    share_folder: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="Keep shared queries in this folder; by default they are kept in memory.")] = None,
    map_tiles: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Let browsers load the pictures of the map from this address, such as "
        "'https://tiles.example/{z}/{x}/{y}.png'; its owner then sees where photos were taken. By default the page "
        "draws an outline of the world, and asks nobody.")] = None,
    map_attribution: Annotated[str | None, typer.Option(
        metavar="TEXT", help="Name the source of that map with this text, as its licence requires.")] = None,
    workers: Annotated[int | None, typer.Option(
        min=1, help="Compute this many searches at once; 2 by default.")] = None,
    waiting: Annotated[int | None, typer.Option(
        min=0, help="Let this many searches wait, 16 by default; clients beyond that are told to come back.")] = None,
    seconds: Annotated[float | None, typer.Option(
        min=0.1, help="Give up an answer that takes longer than this many seconds, waiting included; 60 by "
                      "default.")] = None,
    upload_seconds: Annotated[float | None, typer.Option(
        min=0.1, help="Refuse a photo that takes longer than this many seconds to arrive; 30 by default.")] = None,
    header_seconds: Annotated[float | None, typer.Option(
        min=0.1, help="Close a connection whose request header takes longer than this many seconds; 10 by "
                      "default.")] = None,
    per_address: Annotated[int | None, typer.Option(
        min=1, help="Accept at most this many connections from one address, 64 by default. Behind a proxy, all "
                    "connections come from its address.")]
    = None,
    upload_bytes: Annotated[int | None, typer.Option(
        min=1, help="Refuse photos with more bytes than this; 20,000,000 by default.")] = None,
    pixels: Annotated[int | None, typer.Option(
        min=1, help="Refuse uploaded photos with more pixels than this; 50,000,000 by default.")] = None,
    jobs: Annotated[int | None, typer.Option(
        min=1, help="Accept at most this many unfinished batches of photos at once; 8 by default.")] = None,
    batch_photos: Annotated[int | None, typer.Option(
        min=1, help="Accept at most this many photos in one batch; 500 by default.")] = None,
    spool_bytes: Annotated[int | None, typer.Option(
        min=1, help="Let at most this many bytes of photos wait on the disk to be added; 2,000,000,000 by "
                    "default.")] = None,
    ray: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Search a store on the machines of a Ray cluster: local (start Ray on this machine), "
                                "auto (the cluster that runs here) or HOST:PORT.")] = None,
    replicas: Annotated[int | None, typer.Option(
        min=1, help="With --ray, place each segment on this many machines, 2 by default, so that one may die.")] = None,
    cache: Annotated[str | None, typer.Option(
        metavar="FOLDER", help="With --ray, keep segments in this folder on each machine.")] = None,
    model: Annotated[str | None, typer.Option(help="Use this model file, if the collection was not made with a "
                                                   "packaged model.")] = None,
    extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Serve collections, so that browsers and programs can search them over HTTP.

    Ctrl-C ends the service as soon as it has finished what it has begun. The API is described at /docs.

    If there are several collections, each is served below its name (/places/, /shop/). The environment variable
    DELF_TOKEN_PLACES sets a token for places.delf alone. Photos that are added to it go into the folder places in
    --uploads, and queries that are shared go into one of that name in --share-folder.

    Example: [bold]delf serve places.delf[/bold]

    Example: [bold]delf serve places.delf shop.delf --port 8080[/bold]

    Example: [bold]delf serve s3://photos/places.store --ray auto --replicas 3[/bold]
    """
    from delf.cli.serving_cluster import opened_cluster, refuse_cluster_options, require_one_store, serve_cluster
    from delf.collection import Collection
    from delf.images import display_path
    from delf.service.guard import LOOPBACK
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.server import serve as listen

    limits = given(workers=workers, waiting=waiting, seconds=seconds, upload_seconds=upload_seconds, pixels=pixels,
                   header_seconds=header_seconds, per_address=per_address, upload_bytes=upload_bytes,
                   jobs=jobs, batch_photos=batch_photos, spool_bytes=spool_bytes,
                   share_seconds=None if share_hours is None else 3600 * share_hours, share_bytes=share_bytes,
                   share_photos=share_photos, map_tiles=map_tiles, map_attribution=map_attribution)
    wanted = None if methods is None else chosen_methods(methods)
    extraction = only_extraction(settings)
    if ray is not None:
        kept = given(replicas=replicas, cache=cache, seconds=seconds)
        options = ServiceOptions(hosts=tuple(allow_host or ()), **limits)
        require_one_store(collections, token, uploads)
        with opened_cluster(collections[0], ray, kept, quiet) as cluster:
            loaded = load_stored_extractor(cluster.snapshot, extractor, model, runtime, device, threads, quiet,
                                           **extraction)
            serve_cluster(cluster, loaded, wanted, options, host, port, quiet)
        return
    refuse_cluster_options(collections, replicas=replicas, cache=cache)
    folders = [Path(place) for place in collections]
    places = {"": folders[0]} if len(folders) == 1 else _named(folders)
    libraries: dict[str, Library] = {}
    all_options: dict[str, ServiceOptions] = {}
    for name, place in places.items():
        own = _token(name, token)
        folder = uploads if own is None else _below(uploads, name)
        all_options[name] = ServiceOptions(
            token=own, uploads=folder, roots=tuple(root or ()), share_folder=_below(share_folder, name),
            hosts=tuple(allow_host or ()), local=host in LOOPBACK and not allow_host, originals=originals, **limits)
        with Collection.open(place) as opened:
            loaded = load_stored_extractor(opened, extractor, model, runtime, device, threads, quiet, **extraction)
        with progress("Preparing", "segments", quiet):
            libraries[name] = Library(place, loaded, wanted, told=say)

    def started(address: str) -> None:
        for name, library in libraries.items():
            below, images = f"{address}{name}/" if name else address, len(library.state.snapshot)
            print(f"{display_path(places[name])}: {counted(images, 'image')} at {below}", flush=True)
        say("Press Ctrl-C to end the service.", quiet)

    if len(collections) == 1:
        listen(libraries[""], all_options[""], host, port, started=started)
    else:
        listen(libraries, all_options, host, port, started=started)


def _named(collections: list[Path]) -> dict[str, Path]:
    """Several collections by the names of their folders, without `.delf`."""
    from delf.errors import OptionError
    from delf.images import display_path

    named: dict[str, Path] = {}
    for place in collections:
        name = place.resolve().name.removesuffix(".delf")
        if name in named:
            raise OptionError(f"{display_path(named[name])} and {display_path(place)} would both be served as "
                              f"{name!r}: rename one of them")
        named[name] = place
    return named


def _below(folder: Path | None, name: str) -> Path | None:
    """The folder of one of several collections in a folder for all; of a single one, that folder itself."""
    from delf.errors import OptionError
    from delf.images import display_path

    if folder is None or not name:
        return folder
    try:
        (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise OptionError(f"the folder {display_path(folder / name)} cannot be made ({error.strerror or error}); make "
                          f"{display_path(folder)} first") from error
    return folder / name


def _token(name: str, usual: str | None) -> str | None:
    """The token of a collection: of several, each may have its own."""
    return os.environ.get(f"DELF_TOKEN_{re.sub(r'[^A-Za-z0-9]', '_', name).upper()}", usual) if name else usual


def chosen_methods(names: str) -> list[str]:
    """The search methods in a list with commas."""
    from delf.errors import OptionError
    from delf.methods import METHODS

    chosen = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in METHODS]
    if unknown or not chosen:
        raise OptionError(f"unknown method {unknown[0]!r}; known are {', '.join(METHODS)}" if unknown else
                          f"--methods names none; known are {', '.join(METHODS)}")
    return chosen
