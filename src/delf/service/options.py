"""How the service is run: who may ask, and how much."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from delf.errors import OptionError
from delf.images import ImageOptions

SHORTEST_TOKEN = 16  # characters: a shorter one can be found by trying
_MAKE_TOKEN = "python -c 'import secrets; print(secrets.token_urlsafe())'"


@dataclass(frozen=True)
class ServiceOptions:
    """How a service is run.

    token: what a client must show to add and remove photos; without one nobody may. uploads: the folder that added
        photos are kept in. hosts: names beside the loopback ones under which the service may be asked for;
        any_address: whether every numeral address may, which is safe, since only names can be pointed elsewhere.
    workers: searches that are computed at once. waiting: how many more may wait; any beyond them are told to come back.
    seconds: for an answer, waiting included. upload_seconds: for the body of a request.
    header_seconds: for a connection to send the header of a request, its first or the next one.
    receiving: forms that come in at once. connections: that are open at once; per_address: of these, from one address,
        which is that of the proxy where there is one. requests: that are answered at once, whatever they ask for.
    upload_bytes, pixels: of one photo, looked at before it is decoded. top: results of one search.
    pictures_bytes: of thumbnails that are kept in memory. queries: whose features are kept, for a second look.
    watch_seconds: between two looks whether another process has changed the collection.
    """

    token: str | None = None
    uploads: Path | None = None
    hosts: tuple[str, ...] = ()
    any_address: bool = False
    workers: int = 2
    waiting: int = 16
    seconds: float = 60.0
    upload_seconds: float = 30.0
    header_seconds: float = 10.0
    receiving: int = 32
    connections: int = 512
    per_address: int = 64
    requests: int = 128
    upload_bytes: int = 20_000_000
    pixels: int = 50_000_000
    top: int = 100
    pictures_bytes: int = 64_000_000
    queries: int = 32
    watch_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()
                                       or not self.token.isprintable() or " " in self.token):
            raise OptionError(f"a token has at least {SHORTEST_TOKEN} characters of ASCII and no space; make one with: "
                              f"{_MAKE_TOKEN}")
        if self.uploads is not None and self.token is None:
            raise OptionError("a folder for uploads is of no use without a token, which clients show to add photos: "
                              "give --token or set DELF_TOKEN")
        if self.uploads is not None and not (self.uploads.is_dir() and os.access(self.uploads, os.W_OK)):
            raise OptionError(f"the folder for uploads {str(self.uploads)!r} is not there or may not be written to; "
                              "make it first")
        if self.workers < 1 or self.waiting < 0 or self.top < 1 or self.upload_bytes < 1 or self.pixels < 1:
            raise OptionError("workers, top, upload_bytes and pixels must be 1 or more, and waiting 0 or more")
        if min(self.seconds, self.upload_seconds, self.header_seconds, self.watch_seconds) <= 0:
            raise OptionError("times must be above 0")
        if min(self.receiving, self.connections, self.per_address, self.requests) < 1:
            raise OptionError("receiving, connections, per_address and requests must be 1 or more")

    @property
    def images(self) -> ImageOptions:
        """Which uploaded images are accepted: no RAW files, of whose many kinds strangers may send the worst."""
        return ImageOptions(max_pixels=self.pixels, max_bytes=self.upload_bytes, raw=False)
