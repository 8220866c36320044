"""`delf open`: from a folder of photos to looking, by one command."""

from __future__ import annotations

import secrets
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from delf.cli.console import counted, say
from delf.cli.indexing import extractor_as_before
from delf.cli.options import Device, Own, Quiet, Runtime, Settings, Threads, only_extraction


def open(
    photos: Annotated[list[Path], typer.Argument(
        metavar="PHOTOS", help="Index these folders and files of photos; or open this collection.")],
    output: Annotated[Path | None, typer.Option(
        "--output", "-o", metavar="COLLECTION", help="Keep the collection here; for a folder NAME, the default is "
                                                     "NAME.delf in the current folder.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Serve the page at this port; 0 takes any free "
                                                             "port.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page in the browser, or only print "
                                                                         "its address.")] = True,
    model: Annotated[str | None, typer.Option(help="Use this model: the name of a packaged one, or a model file. By "
                                                   "default the collection's own model is used, or the packaged one "
                                                   "for a new collection.")] = None,
    extractor: Own = None, settings: Settings = None,
    runtime: Runtime = "auto", device: Device = "cpu", threads: Threads = None, quiet: Quiet = False,
) -> None:
    """Index photos and look at them in the browser, where they appear as they are indexed.

    The command adds what is new or has changed since the last time. On the page you can search, and add and remove
    photos; so can whoever has the address that the command prints. Ctrl-C ends it, and the same command continues.

    Example: [bold]delf open ~/Pictures[/bold]
    """
    from delf.collection import Collection
    from delf.images import display_path, find_images
    from delf.service.indexing import Indexing
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.server import serve

    if output is None and len(photos) == 1 and Collection.exists(photos[0]):
        output, photos = photos[0], []
    find_images(photos)  # raises for a missing file before anything is made
    place = output or _beside(photos[0])
    own = extractor_as_before(place, extractor, model, runtime, device, threads, quiet, only_extraction(settings))
    with Collection.open_or_create(place, own) as opened:
        images = len(opened)
    uploads = place / "uploads"
    uploads.mkdir(exist_ok=True)
    options = ServiceOptions(token=secrets.token_urlsafe(24), uploads=uploads, roots=tuple(photos), local=True,
                             watch_seconds=1.0)
    library = Library(place, own, told=say)
    indexing = Indexing(place, own, photos, changed=library.refresh,
                        told=lambda sentence: say(sentence, quiet)) if photos else None

    def started(address: str) -> None:
        page = f"{address}#token={options.token}"
        print(f"{display_path(place)}: {counted(images, 'image')} at {page}", flush=True)
        say("Press Ctrl-C to end this command.", quiet)
        if browser:
            open_browser(page)

    serve(library, options, "127.0.0.1", port, indexing=indexing, started=started)


def open_browser(page: str) -> None:
    """Show a page, beside what goes on: some browsers return when they are closed."""
    threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()


def _beside(photos: Path) -> Path:
    """Where the collection of a folder is kept, if nothing else is said."""
    resolved = photos.resolve()
    return Path(f"{(resolved if resolved.is_dir() else resolved.parent).name or 'photos'}.delf")
