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
        metavar="COLLECTION...", help="The folder of a collection; of several, each is served below its name. With "
                                      "--ray, the path or the address of a store.")],
    host: Annotated[str, typer.Option(help="The address to listen at; the default is seen from this computer only.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="DELF_TOKEN", show_envvar=True, help="What clients show to add "
                                              "and remove photos; nobody may without.")] = None,
    uploads: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where added photos are kept.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Another name that the service is asked "
                                                         "for under, such as that of a proxy.")] = None,
    methods: Annotated[str | None, typer.Option(metavar="NAME,...", help="The search methods that are served, the "
                       "usual one first; what they need is made before it starts. By default the recommended one, and "
                       "those that need nothing more.")] = None,
    workers: Annotated[int | None, typer.Option(
        min=1, help="Searches that are computed at once; 2 by default.")] = None,
    waiting: Annotated[int | None, typer.Option(
        min=0, help="Searches that may wait, 16 by default; more are told to come back.")] = None,
    seconds: Annotated[float | None, typer.Option(
        min=0.1, help="Seconds that an answer may take, waiting included; 60 by default.")] = None,
    upload_seconds: Annotated[float | None, typer.Option(
        min=0.1, help="Seconds that a photo may take to arrive; 30 by default.")] = None,
    header_seconds: Annotated[float | None, typer.Option(
        min=0.1, help="Seconds that a request's header may take; 10 by default.")] = None,
    per_address: Annotated[int | None, typer.Option(
        min=1, help="Connections from one address at most, 64 by default; behind a proxy all come from its address.")]
    = None,
    upload_bytes: Annotated[int | None, typer.Option(
        min=1, help="How many bytes a photo may have; 20,000,000 by default.")] = None,
    pixels: Annotated[int | None, typer.Option(
        min=1, help="How many pixels an uploaded photo may have; 50,000,000 by default.")] = None,
    ray: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Search a store on the machines of a Ray cluster: local (start Ray on this machine), "
                                "auto (the cluster that runs here) or HOST:PORT.")] = None,
    replicas: Annotated[int | None, typer.Option(
        min=1, help="With --ray: machines that have each segment, 2 by default, so that one may die.")] = None,
    cache: Annotated[str | None, typer.Option(
        metavar="FOLDER", help="With --ray: the folder on each machine in which segments are kept.")] = None,
    model: Annotated[str | None, typer.Option(help="The model file, where it is not a packaged one.")] = None,
    extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Search a collection in the browser, and from programs over HTTP.

    Ctrl-C ends it, when what was begun is done. The description of the API is at /docs.

    Of several collections, each is served below its name (/places/, /shop/), and the environment variable
    DELF_TOKEN_PLACES has a token of its own for places.delf. Photos that are added go into a folder of that name in
    --uploads.

    Example: [bold]delf serve places.delf[/bold]

    Example: [bold]delf serve places.delf shop.delf --port 8080[/bold]

    Example: [bold]delf serve s3://photos/places.store --ray auto --replicas 3[/bold]
    """
    from delf.cli.serving_cluster import opened_cluster, refuse_cluster_options, require_one_store, serve_cluster
    from delf.collection import Collection
    from delf.images import display_path
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.server import serve as listen

    limits = given(workers=workers, waiting=waiting, seconds=seconds, upload_seconds=upload_seconds, pixels=pixels,
                   header_seconds=header_seconds, per_address=per_address, upload_bytes=upload_bytes)
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
        own, folder = _token(name, token), uploads
        if uploads is not None and name and own is not None:
            folder = uploads / name
            folder.mkdir(exist_ok=True)
        all_options[name] = ServiceOptions(token=own, uploads=folder, hosts=tuple(allow_host or ()), **limits)
        with Collection.open(place) as opened:
            found = load_stored_extractor(opened, extractor, model, runtime, device, threads, quiet, **extraction)
        with progress("Preparing", "segments", quiet):
            libraries[name] = Library(place, found, wanted, told=say)

    def started(address: str) -> None:
        for name, library in libraries.items():
            below, images = f"{address}{name}/" if name else address, len(library.state.snapshot)
            print(f"{display_path(places[name])}: {counted(images, 'image')} at {below}", flush=True)
        say("Ctrl-C ends the service.", quiet)

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
