"""`delf serve`: a collection over HTTP, with a page to look at the results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from delf.cli.collections import Folder
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
    collection: Folder,
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
    model: Annotated[str | None, typer.Option(help="The model file, where it is not a packaged one.")] = None,
    extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Search a collection in the browser, and from programs over HTTP.

    Ctrl-C ends it, when what was begun is done. The description of the API is at /docs.

    Example: [bold]delf serve places.delf[/bold]
    """
    from delf.collection import Collection
    from delf.images import display_path
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.server import serve as listen

    options = ServiceOptions(token=token, uploads=uploads, hosts=tuple(allow_host or ()),
                             **given(workers=workers, waiting=waiting, seconds=seconds, upload_seconds=upload_seconds,
                                     header_seconds=header_seconds, per_address=per_address,
                                     upload_bytes=upload_bytes, pixels=pixels))
    wanted = None if methods is None else chosen_methods(methods)
    with Collection.open(collection) as opened:
        images = len(opened)
        found = load_stored_extractor(opened, extractor, model, runtime, device, threads, quiet,
                                      **only_extraction(settings))
    with progress("Preparing", "segments", quiet):
        library = Library(collection, found, wanted, told=say)

    def started(address: str) -> None:
        print(f"{display_path(collection)}: {counted(images, 'image')} at {address}", flush=True)
        say("Ctrl-C ends the service.", quiet)

    listen(library, options, host, port, started=started)


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
