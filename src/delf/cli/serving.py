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
    collections: Annotated[list[Path], typer.Argument(
        metavar="COLLECTION...", help="Serve the collection in this folder; if there are several, each is served "
                                      "below its name.")],
    host: Annotated[str, typer.Option(help="Listen at this address; the default can only be reached from this "
                                           "computer.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Listen at this port; 0 takes any free port.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="DELF_TOKEN", show_envvar=True, help=
        "Let clients that show this token add and remove photos. Without a token nobody may.")] = None,
    uploads: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep photos that clients add in "
                                                                        "this folder.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Answer to this host name as well, such "
                                                                              "as that of a proxy. You may repeat "
                                                                              "this.")] = None,
    methods: Annotated[str | None, typer.Option(metavar="NAME,...", help="Serve these search methods, the usual one "
                                                                         "first; what they need is built before the "
                                                                         "service starts. By default the recommended "
                                                                         "method is served, with all others that need "
                                                                         "nothing more.")] = None,
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
    model: Annotated[str | None, typer.Option(help="Use this model file, if the collection was not made with a "
                                                   "packaged model.")] = None,
    extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Serve collections, so that browsers and programs can search them over HTTP.

    Ctrl-C ends the service as soon as it has finished what it has begun. The API is described at /docs.

    If there are several collections, each is served below its name (/places/, /shop/). The environment variable
    DELF_TOKEN_PLACES sets a token for places.delf alone, and photos that are added to it go into the folder places in
    --uploads.

    Example: [bold]delf serve places.delf[/bold]

    Example: [bold]delf serve places.delf shop.delf --port 8080[/bold]
    """
    from delf.collection import Collection
    from delf.images import display_path
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.server import serve as listen

    limits = given(workers=workers, waiting=waiting, seconds=seconds, upload_seconds=upload_seconds, pixels=pixels,
                   header_seconds=header_seconds, per_address=per_address, upload_bytes=upload_bytes,
                   jobs=jobs, batch_photos=batch_photos, spool_bytes=spool_bytes)
    wanted = None if methods is None else chosen_methods(methods)
    extraction = only_extraction(settings)
    places = {"": collections[0]} if len(collections) == 1 else _named(collections)
    libraries, options = {}, {}
    for name, place in places.items():
        own, folder = _token(name, token), uploads
        if uploads is not None and name and own is not None:
            folder = uploads / name
            folder.mkdir(exist_ok=True)
        options[name] = ServiceOptions(token=own, uploads=folder, hosts=tuple(allow_host or ()), **limits)
        with Collection.open(place) as opened:
            found = load_stored_extractor(opened, extractor, model, runtime, device, threads, quiet, **extraction)
        with progress("Preparing", "segments", quiet):
            libraries[name] = Library(place, found, wanted, told=say)

    def started(address: str) -> None:
        for name, library in libraries.items():
            below, images = f"{address}{name}/" if name else address, len(library.state.snapshot)
            print(f"{display_path(places[name])}: {counted(images, 'image')} at {below}", flush=True)
        say("Press Ctrl-C to end the service.", quiet)

    if len(collections) == 1:
        listen(libraries[""], options[""], host, port, started=started)
    else:
        listen(libraries, options, host, port, started=started)


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
