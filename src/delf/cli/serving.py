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
        metavar="COLLECTION...", help="The folder of a collection; of several, each is served below its name.")],
    host: Annotated[str, typer.Option(help="The address to listen at; the default is seen from this computer only.")]
    = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes one that is free.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="DELF_TOKEN", show_envvar=True, help="What clients show to add "
                                              "and remove photos; nobody may without.")] = None,
    uploads: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where added photos are kept.")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Another name that the service is asked "
                                                         "for under, such as that of a proxy.")] = None,
    originals: Annotated[bool | None, typer.Option(
        "--originals/--no-originals", help="Whether the files of photos are given out as they are, with all that is in "
        "them; by default where only this computer can ask: neither --host nor --allow-host is given.")] = None,
    methods: Annotated[str | None, typer.Option(metavar="NAME,...", help="The search methods that are served, the "
                       "usual one first; what they need is made before it starts. By default the recommended one, and "
                       "those that need nothing more.")] = None,
    share_hours: Annotated[float | None, typer.Option(
        min=0, help="Hours for which an uploaded query is kept that somebody shares a link to, 24 by default; 0 keeps "
                    "none.")] = None,
    share_bytes: Annotated[int | None, typer.Option(
        min=1, help="How many bytes such queries may have in all; 100,000,000 by default.")] = None,
    share_photos: Annotated[int | None, typer.Option(
        min=1, help="How many such queries are kept; 200 by default, the oldest make room.")] = None,
    share_folder: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="Where such queries are kept; in memory by default.")] = None,
    map_tiles: Annotated[str | None, typer.Option(
        metavar="ADDRESS", help="Where browsers get pictures of the map from, such as "
        "'https://tiles.example/{z}/{x}/{y}.png': its owner sees where photos were taken. By default the page draws an "
        "outline of the world, and asks nobody.")] = None,
    map_attribution: Annotated[str | None, typer.Option(
        metavar="TEXT", help="Whom that map is from, as its licence wants it said.")] = None,
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

    Of several collections, each is served below its name (/places/, /shop/), and the environment variable
    DELF_TOKEN_PLACES has a token of its own for places.delf. Photos that are added go into a folder of that name in
    --uploads, and queries that are shared into one in --share-folder.

    Example: [bold]delf serve places.delf[/bold]

    Example: [bold]delf serve places.delf shop.delf --port 8080[/bold]
    """
    from delf.collection import Collection
    from delf.images import display_path
    from delf.service.guard import LOOPBACK
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.server import serve as listen

    limits = given(workers=workers, waiting=waiting, seconds=seconds, upload_seconds=upload_seconds, pixels=pixels,
                   header_seconds=header_seconds, per_address=per_address, upload_bytes=upload_bytes,
                   share_seconds=None if share_hours is None else 3600 * share_hours, share_bytes=share_bytes,
                   share_photos=share_photos, map_tiles=map_tiles, map_attribution=map_attribution)
    wanted = None if methods is None else chosen_methods(methods)
    extraction = only_extraction(settings)
    places = {"": collections[0]} if len(collections) == 1 else _named(collections)
    libraries, options = {}, {}
    for name, place in places.items():
        own = _token(name, token)
        folder = uploads if own is None else _below(uploads, name)
        options[name] = ServiceOptions(token=own, uploads=folder, share_folder=_below(share_folder, name),
                                       hosts=tuple(allow_host or ()), local=host in LOOPBACK and not allow_host,
                                       originals=originals, **limits)
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


def _below(folder: Path | None, name: str) -> Path | None:
    """The folder of one of several collections in a folder for all; of a single one, that folder itself."""
    from delf.errors import OptionError
    from delf.images import display_path

    if folder is None or not name:
        return folder
    try:
        (folder / name).mkdir(exist_ok=True)
    except OSError as error:
        raise OptionError(f"the folder {display_path(folder / name)} cannot be made ({error.strerror}); make "
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
