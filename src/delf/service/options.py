"""How the service is run: who may ask, and how much."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from delf.errors import OptionError
from delf.images import ImageOptions
from delf.settings import Options

SHORTEST_TOKEN = 16  # characters: a shorter one can be found by trying
_LONGEST_SHARED = 366 * 86_400.0  # seconds
_TILES = re.compile(r"(?P<origin>https?://[A-Za-z0-9.-]+(:\d{1,5})?)/(?=.*\{z\})(?=.*\{x\})(?=.*\{y\})[!-~]+")
_MAKE_TOKEN = "python -c 'import secrets; print(secrets.token_urlsafe())'"


@dataclass(frozen=True)
class ServiceOptions(Options):
    """How a service is run.

    token: what a client must show to add and remove photos; without one nobody may. uploads: the folder that added
        photos are kept in. roots: folders on this computer that clients may name photos of, to be added where they
        lie, where it is local.
    local: whether those who ask sit at this computer, so that a photo can be shown in its folder there. originals:
        whether files of photos are given out as they are, with all that is in them; None: where it is local.
    hosts: names beside the loopback ones under which the service may be asked for; any_address: whether every numeral
        address may, which is safe, since only names can be pointed elsewhere.
    workers: searches that are computed at once. waiting: how many more may wait; any beyond them are told to come back.
    seconds: for an answer, waiting included. upload_seconds: for the body of a request.
    header_seconds: for a connection to send the header of a request, its first or the next one.
    receiving: forms that come in at once. connections: that are open at once; per_address: of these, from one address,
        which is that of the proxy where there is one. requests: that are answered at once, whatever they ask for.
    upload_bytes, pixels: of one photo, looked at before it is decoded. top: results of one search.
    jobs: batches of photos that are unfinished at once, also while they come in. batch_photos: of one batch.
        spool_bytes: of all photos that wait on the disk to be added.
    pictures_bytes: of thumbnails that are kept in memory. queries: whose features are kept, for a second look.
    share_seconds: for which a query that is shared by a link is kept; 0: none is. share_bytes, share_photos: of all
        that are; the oldest make room. share_folder: where they are kept, as `KEY.query`; None: in memory.
    map_tiles: where browsers get pictures of the map from, such as https://tiles.example/{z}/{x}/{y}.png; None: the
        page draws an outline of the world, and loads nothing from elsewhere. map_attribution: whom the map is from.
    watch_seconds: between two looks whether another process has changed the collection.
    """

    token: str | None = None
    uploads: Path | None = None
    roots: tuple[Path, ...] = ()
    local: bool = False
    originals: bool | None = None
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
    jobs: int = 8
    batch_photos: int = 500
    spool_bytes: int = 2_000_000_000
    pictures_bytes: int = 64_000_000
    queries: int = 32
    share_seconds: float = 86_400.0
    share_bytes: int = 100_000_000
    share_photos: int = 200
    share_folder: Path | None = None
    map_tiles: str | None = None
    map_attribution: str = ""
    watch_seconds: float = 5.0

    def __post_init__(self) -> None:
        if self.token is not None and (len(self.token) < SHORTEST_TOKEN or not self.token.isascii()
                                       or not self.token.isprintable() or " " in self.token):
            raise OptionError(f"a token has at least {SHORTEST_TOKEN} characters of ASCII and no space; make one with: "
                              f"{_MAKE_TOKEN}")
        if self.uploads is not None and self.token is None:
            raise OptionError("a folder for uploads is of no use without a token, which clients show to add photos: "
                              "give --token or set DELF_TOKEN")
        if self.roots and not (self.token is not None and self.local):
            raise OptionError("folders to add photos from are for programs on this computer that show a token: give "
                              "--token or set DELF_TOKEN, and leave out --host and --allow-host, or leave out --root")
        for root in self.roots:
            if not root.exists():
                raise OptionError(f"there is no folder {str(root)!r} to add photos from: check the path")
        for folder, what in ((self.uploads, "uploads"), (self.share_folder, "queries that are shared")):
            if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
                raise OptionError(f"the folder for {what} {str(folder)!r} is not there or may not be written to; make "
                                  "it first")
        hosts: object = self.hosts
        if isinstance(hosts, str):  # of which the letters would be taken
            raise OptionError(f"hosts are names in a tuple, such as ({hosts[:200]!r},), not a text")
        if self.workers < 1 or self.waiting < 0 or self.top < 1 or self.upload_bytes < 1 or self.pixels < 1:
            raise OptionError("workers, top, upload_bytes and pixels must be 1 or more, and waiting 0 or more")
        if min(self.jobs, self.batch_photos, self.spool_bytes) < 1:
            raise OptionError("jobs, batch_photos and spool_bytes must be 1 or more")
        if min(self.seconds, self.upload_seconds, self.header_seconds, self.watch_seconds) <= 0:
            raise OptionError("times must be above 0")
        if self.map_tiles is not None and not _TILES.fullmatch(self.map_tiles):
            raise OptionError("the source of the map is an address such as https://tiles.example/{z}/{x}/{y}.png, "
                              f"with {{z}}, {{x}} and {{y}} in its path, not {self.map_tiles[:200]!r}")
        if not 0 <= self.share_seconds < _LONGEST_SHARED or min(self.share_bytes, self.share_photos) < 1:
            raise OptionError("share_seconds must be from 0 (nothing is shared) to a year, and share_bytes and "
                              "share_photos 1 or more")
        if min(self.receiving, self.connections, self.per_address, self.requests) < 1:
            raise OptionError("receiving, connections, per_address and requests must be 1 or more")

    @property
    def gives_originals(self) -> bool:
        """Whether files of photos are given out as they are."""
        return self.local if self.originals is None else self.originals

    @property
    def tiles_origin(self) -> str | None:
        """Scheme, name and port of `map_tiles`, the only place elsewhere that browsers may get pictures from."""
        found = _TILES.fullmatch(self.map_tiles or "")
        return None if found is None else found["origin"]

    @property
    def images(self) -> ImageOptions:
        """Which uploaded images are accepted: no RAW files, of whose many kinds strangers may send the worst."""
        return ImageOptions(max_pixels=self.pixels, max_bytes=self.upload_bytes, raw=False)
