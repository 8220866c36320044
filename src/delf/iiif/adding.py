"""The canvases of manifests as photos of a collection: each once, under the addresses of its manifest and canvas."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from delf.collection import AddReport, Collection, NewPhoto
from delf.collection.given import LONGEST_KEY, path_of_key
from delf.datasets.download import UnreachableError
from delf.datasets.registry import DatasetError
from delf.errors import ImageError
from delf.iiif.fetching import CACHE, Fetcher, IiifOptions, checked
from delf.iiif.image_api import bounded, of_what_there_is
from delf.iiif.presentation import Canvas, canvases, children, is_collection, is_manifest, pages
from delf.images import LoadedImage, load, printable

IMAGES_PER_SEGMENT = 64  # few, since each costs a request: what is stored need not be asked for again
_GIVEN_UP = 5  # failures in a row, after which a host is left alone
_REFUSED = 20  # the same of refusals, as of a host that wants a login
_ADDRESS = re.compile(r"https?://", re.IGNORECASE)
Progress = Callable[[int, int], None]


def is_address(text: object) -> bool:
    """Whether something is an address of the web, and no path."""
    return isinstance(text, str) and bool(_ADDRESS.match(text))


def add_manifests(collection: Collection, addresses: Iterable[str], *, options: IiifOptions | None = None,
                  progress: Progress = lambda done, total: None) -> AddReport:
    """Add the pictures of IIIF manifests, and of collections of manifests, that the collection has not got.

        add_manifests(collection, ["https://example.org/iiif/book1/manifest.json"])

    Each canvas is a photo with the key `MANIFEST#CANVAS`, whose metadata have in `iiif` the addresses of the manifest,
    the canvas and the picture. Whatever ends the work, the next call goes on from what is stored.

    Args:
        progress: called with (canvases done, canvases known so far).

    Raises:
        DatasetError: an address that was given makes no sense. CollectionError: as for `Collection.add`. What cannot be
            had, or is too much, is told in `skipped`.
    """
    run = _Run(collection, options or IiifOptions())
    wanted = [checked(address.partition("#")[0]) for address in addresses]
    report = collection.add_photos(run.photos(wanted), preview=run.options.preview,
                                   progress=lambda done, total: progress(run.done(done), run.known),
                                   images_per_segment=IMAGES_PER_SEGMENT)
    return replace(report, unchanged=report.unchanged + run.unchanged, skipped=(*run.skipped, *report.skipped))


@dataclass
class _Run:
    """One call. known: canvases so far, of which `unchanged` were there before. failures, refusals: in a row, by host.
    left: hosts that are asked no more.
    """

    collection: Collection
    options: IiifOptions
    known: int = 0
    unchanged: int = 0
    manifests: int = 0
    skipped: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    refusals: dict[str, int] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)

    def done(self, added: int) -> int:
        """How many canvases are done, of which so many were added now."""
        return min(self.known, added + self.unchanged + len(self.skipped))

    def photos(self, addresses: Iterable[str]) -> Iterator[NewPhoto]:
        """The pictures, as they come."""
        seen: set[str] = set()
        for address in addresses:
            fetcher = Fetcher(self.options, self.collection.folder / CACHE)
            for canvas in self._canvases(fetcher, address, seen):
                if self.known == self.options.canvases:
                    self.skipped.append(f"{address}: there are more than {self.options.canvases:,} canvases, and the "
                                        "rest was left out: raise the option iiif.canvases")
                    return
                self.known += 1
                photo = self._photo(fetcher, canvas)
                if photo is not None:
                    yield photo

    def _canvases(self, fetcher: Fetcher, address: str, seen: set[str], depth: int = 0) -> Iterator[Canvas]:
        """The canvases of a manifest, or of all that a collection names, each manifest once."""
        document = self._document(fetcher, address, seen)
        if document is None:
            return
        if not is_collection(document):
            found = list(canvases(document, address))
            if not found:
                self.skipped.append(f"{address} has no canvas with a picture: its canvases have films or sound, or "
                                    "nothing" if is_manifest(document) else
                                    f"{address} is no IIIF manifest: check the address")
            yield from found
        elif depth == self.options.depth:
            self.skipped.append(f"{address} lies deeper than {depth} collections in another: name it by itself")
        else:
            yield from self._named(fetcher, document, seen, depth)

    def _named(self, fetcher: Fetcher, document: dict[str, Any] | None, seen: set[str], depth: int) -> Iterator[Canvas]:
        """The canvases of what a collection names, on all of its pages."""
        following: list[str] = []
        while document is not None or following:
            if document is None:
                document = self._document(fetcher, following.pop(0), seen)
                continue
            for child in children(document):
                wanted = self._checked(child)
                if wanted is not None:
                    yield from self._canvases(fetcher, wanted, seen, depth + 1)
            following += [wanted for page in pages(document) if (wanted := self._checked(page)) is not None]
            document = None

    def _checked(self, address: str) -> str | None:
        return self._had(address, lambda: checked(address.partition("#")[0]))

    def _document(self, fetcher: Fetcher, address: str, seen: set[str]) -> dict[str, Any] | None:
        """A manifest or a collection; None where it was had before, cannot be had, or is one too many."""
        if address in seen:
            return None
        seen.add(address)
        if self.manifests == self.options.manifests:
            self.skipped.append(f"{address}: more than {self.options.manifests:,} manifests were named, and the rest "
                                "was left out: raise the option iiif.manifests")
        self.manifests += 1
        if self.manifests > self.options.manifests:
            return None
        return self._had(address, lambda: fetcher.document(address))

    def _photo(self, fetcher: Fetcher, canvas: Canvas) -> NewPhoto | None:
        """The picture of a canvas; None where it is there already, or cannot be had."""
        if len(canvas.key) > LONGEST_KEY or not canvas.key.isprintable():
            self.skipped.append(f"{canvas.manifest} has a canvas whose name is too long, or no text: "
                                f"{printable(canvas.id[:100])}")
            return None
        if self.collection.catalogue.file(path_of_key(canvas.key)) is not None:
            self.unchanged += 1
            return None
        found = self._had(canvas.key, lambda: self._picture(fetcher, canvas))
        if found is None:
            return None
        loaded, address = found
        said = {"manifest": canvas.manifest, "canvas": canvas.id, "image": address, "label": canvas.label,
                "title": canvas.title}
        return NewPhoto(loaded, canvas.key, canvas.name[:LONGEST_KEY], {"iiif": said})

    def _picture(self, fetcher: Fetcher, canvas: Canvas) -> tuple[LoadedImage, str]:
        side, address, data = self.options.side, bounded(canvas, self.options.side), None
        refused: DatasetError | None = None
        if address is not None:
            try:
                data = fetcher.picture(address)
            except UnreachableError:
                raise
            except DatasetError as error:  # the manifest may have said more of the service than is true
                refused = error
                if canvas.service is None:
                    raise
        if data is None and canvas.service is not None:
            try:
                info = fetcher.document(checked(f"{canvas.service.id}/info.json"))
                address = of_what_there_is(canvas.service, info, side)
                data = fetcher.picture(address)
            except UnreachableError:
                raise
            except DatasetError:
                if refused is not None:  # which says more than that nothing else is there either
                    raise refused from None
                raise
        assert address is not None and data is not None, "a canvas has a picture, or a service"
        try:
            return load(data, shrink_to=side), address
        except ImageError as error:
            raise ImageError(str(error).replace("The given image", address, 1)) from error

    def _had(self, what: str, get: Callable[[], Any]) -> Any:
        """What could be had, or None, which is told. A host that fails again and again is asked no more."""
        host = urlsplit(what).netloc
        if host in self.left:
            return None
        for times, most, did in ((self.failures, _GIVEN_UP, "failed"), (self.refusals, _REFUSED, "gave nothing")):
            if times.get(host, 0) >= most:
                self.left.add(host)
                self.skipped.append(f"{host} {did} {most} times in a row, and is left alone: run the same command "
                                    "later, which goes on from what is stored")
                return None
        try:
            found = get()
        except (DatasetError, ImageError) as error:
            unreachable = isinstance(error, UnreachableError)
            self.failures[host] = self.failures.get(host, 0) + 1 if unreachable else 0
            self.refusals[host] = self.refusals.get(host, 0) + 1
            self.skipped.append(str(error) if what in str(error) else f"{printable(what[:300])}: {error}")
            return None
        self.failures[host] = self.refusals[host] = 0
        return found
