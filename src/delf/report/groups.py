"""A page of groups of photos that show the same place: one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from delf.errors import DelfError, OptionError
from delf.files import write_atomically
from delf.report.charts import Place, map_chart
from delf.report.evidence import counted, moment
from delf.report.figure import Photo, embedded, match_figure
from delf.report.page import GONE, LEFT_OUT, Pictures, document, lines, size_of, tail, text
from delf.settings import Options
from delf.types import ImageArray, ImageMatch


@dataclass(frozen=True, eq=False)
class GroupPhoto:
    """A photo of a group.

    path: as it was indexed. file: from which it is read. copies: the other files with the very same content. partners:
    how many photos of the group it makes a pair with. closest: the path of the one with most inliers, and inliers:
    those. duplicate_of: the path of the photo that it is nearly the same picture as. captured_at: when it was taken,
    and position: (latitude, longitude) in degrees where, if the photo says so. match: of the representative with this
    photo, which the page can draw; None where they make no pair.
    """

    path: str
    partners: int
    closest: str
    inliers: int
    duplicate_of: str | None = None
    captured_at: str | None = None
    position: tuple[float, float] | None = None
    match: Callable[[], ImageMatch] | None = None
    file: str = ""
    copies: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class GroupEntry:
    """One group: its photos, the representative first. pairs: how many join them."""

    photos: Sequence[GroupPhoto]
    pairs: int

    @property
    def duplicates(self) -> int:
        """How many are nearly the same picture as another one."""
        return sum(photo.duplicate_of is not None for photo in self.photos)


@dataclass(frozen=True)
class GroupsOptions(Options):
    """What the page shows, and how large it may get.

    groups: most sections; further groups are only counted. photos: most cards of a group; further photos are listed by
    name. evidence: cards of a group that open to show the points matched with the representative. alone: photos in no
    group that are listed by name. lines: most inliers drawn for one pair. thumbnail, large: longest sides of pictures,
    in pixels. picture_bytes: most bytes of all pictures together; further pictures are left out, and the page says so.
    """

    groups: int = 200
    photos: int = 24
    evidence: int = 3
    alone: int = 200
    lines: int = 120
    thumbnail: int = 280
    large: int = 600
    picture_bytes: int = 25_000_000

    def __post_init__(self) -> None:
        if min(self.groups, self.photos, self.evidence, self.alone, self.lines, self.picture_bytes) < 0:
            raise OptionError("The limits of a report must not be negative.")
        if min(self.thumbnail, self.large) < 16:
            raise OptionError("The pictures of a report need a longest side of at least 16 pixels.")


def write_groups(path: str | Path, entries: Sequence[GroupEntry], alone: Sequence[str], *, title: str, note: str = "",
                 load_image: Callable[[str], ImageArray], options: GroupsOptions = GroupsOptions(),
                 progress: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Write `render_groups` to a file, whole or not at all.

    Raises:
        DelfError: the place cannot be written.
    """
    page = render_groups(entries, alone, title=title, note=note, load_image=load_image, options=options,
                         progress=progress)
    write_atomically(Path(path), page.encode())


def render_groups(entries: Sequence[GroupEntry], alone: Sequence[str], *, title: str, note: str = "",
                  load_image: Callable[[str], ImageArray], options: GroupsOptions = GroupsOptions(),
                  progress: Callable[[int, int], None] = lambda done, total: None) -> str:
    """The page as text that encodes as UTF-8; the same groups give the same text.

    Args:
        entries: largest group first. alone: the paths of photos in no group. note: a line below the title.
        load_image: the pixels of an image by its file; it may raise `DelfError` or `OSError`.
        progress: called with (groups done, groups to do).
    """
    shown = entries[: options.groups]
    page = _Page(load_image, Pictures(options.picture_bytes), options)
    sections = []
    for number, entry in enumerate(shown, start=1):
        sections.append(page.section(number, entry))
        progress(number, len(shown))
    if len(shown) < len(entries):
        sections.append(f"<section class=\"plain\"><p>{len(entries) - len(shown):,} smaller groups are not shown.</p>"
                        "</section>")
    return document(title, _header(entries, alone, title, note, page.covers), [*sections, _alone(alone, options)])


class _Page:
    """Makes the sections, one after the other. covers: (anchor, size, words) of the groups that have a picture."""

    def __init__(self, load: Callable[[str], ImageArray], pictures: Pictures, options: GroupsOptions) -> None:
        self._load, self._pictures, self._options = load, pictures, options
        self.covers: list[tuple[str, tuple[int, int], str]] = []

    def section(self, number: int, entry: GroupEntry) -> str:
        """One group: the representative, and the cards of the others."""
        anchor, first = f"g{number}", entry.photos[0]
        cover = self._loaded(first.file or first.path)
        uri = None if cover is None else self._pictures.embed(cover, self._options.large)
        picture = f'<p class="missing">{GONE if cover is None else LEFT_OUT}</p>'
        photo = None
        if cover is not None and uri is not None:
            photo = Photo(f"{anchor}-photo", size_of(cover), first.path)
            width, height = photo.size
            picture = lines(
                f'<svg class="photo" viewBox="0 0 {width} {height}" role="img" '
                f'aria-label="Representative {text(first.path)}">',
                f'<image id="{photo.id}" width="{width}" height="{height}" preserveAspectRatio="none" href="{uri}"/>',
                "</svg>")
            self.covers.append((anchor, photo.size, counted(len(entry.photos), "photo")))
        others, names = entry.photos[1 : self._options.photos + 1], entry.photos[self._options.photos + 1 :]
        opening = [one for one in others if one.match is not None and one.duplicate_of is None]
        opening = opening[: self._options.evidence]
        cards = [self._card(f"{anchor}-p{place}", one, photo, one in opening)
                 for place, one in enumerate(others, start=2)]
        return lines(
            f'<section id="{anchor}" aria-labelledby="{anchor}-name">',
            '<div class="query">', picture, _about(anchor, number, entry), "</div>",
            '<div class="answer">',
            lines('<ol class="cards small">', *(f"<li>\n{card}\n</li>" for card in cards), "</ol>"),
            _names(f"{counted(len(names), 'more photo')} of this group", [one.path for one in names]),
            "</div>",
            "</section>",
        )

    def _card(self, anchor: str, photo: GroupPhoto, cover: Photo | None, open_up: bool) -> str:
        """One photo; it opens to show how it matches the representative, where that is asked for."""
        image = self._loaded(photo.file or photo.path)
        uri = None if image is None else self._pictures.embed(image, self._options.thumbnail)
        thumbnail = f'<span class="missing">{GONE if image is None else LEFT_OUT}</span>'
        if uri is not None:
            thumbnail = f'<img src="{uri}" alt="{text(photo.path)}">'
        face = _face(photo, thumbnail)
        if open_up and image is not None and cover is not None and photo.match is not None:
            large = self._pictures.embed(image, self._options.large)
            if large is not None:
                this = Photo(anchor, size_of(image), photo.path)
                return lines(
                    '<details class="card">',
                    "<summary>", *face, '<span class="more">matched points</span>', "</summary>",
                    embedded(this, large),
                    match_figure(cover, this, photo.match(), words="the representative", most=self._options.lines,
                                 longest=self._options.large),
                    "</details>")
        return lines('<div class="card">', *face, "</div>")

    def _loaded(self, path: str) -> ImageArray | None:
        if not self._pictures.left:
            return None
        try:
            return self._load(path)
        except (DelfError, OSError):
            return None


def _header(entries: Sequence[GroupEntry], alone: Sequence[str], title: str, note: str,
            covers: Sequence[tuple[str, tuple[int, int], str]]) -> str:
    grouped = sum(len(entry.photos) for entry in entries)
    duplicates = sum(entry.duplicates for entry in entries)
    told = [f"<b>{counted(len(entries), 'group')}</b> of photos that show the same place",
            f"<b>{grouped:,}</b> photos in them, of which <b>{duplicates:,}</b> are near-duplicates",
            f"<b>{len(alone):,}</b> in no group"]
    return lines(
        "<header>", f"<h1>{text(title)}</h1>", f"<p>{text(note)}</p>" if note else "",
        '<ul class="figures">', *(f"<li>{one}</li>" for one in told), "</ul>",
        _overview(covers), _map(entries), "</header>")


def _overview(covers: Sequence[tuple[str, tuple[int, int], str]]) -> str:
    """The representatives, each a link to its group; the pictures are those of the sections."""
    if len(covers) < 2:
        return ""
    items = [f'<li><a href="#{anchor}"><svg viewBox="0 0 {width} {height}" preserveAspectRatio="xMidYMid slice" '
             f'aria-hidden="true"><use href="#{anchor}-photo"/></svg><span>{words}</span></a></li>'
             for anchor, (width, height), words in covers]
    return lines('<nav aria-label="Groups"><ol class="overview">', *items, "</ol></nav>")


def _map(entries: Sequence[GroupEntry]) -> str:
    """Where the groups are: a dot at the middle of the positions that their photos give."""
    places = []
    for number, entry in enumerate(entries, start=1):
        known = [photo.position for photo in entry.photos if photo.position is not None]
        if known:
            latitude, longitude = (sorted(values)[len(values) // 2] for values in zip(*known, strict=True))
            label = f"Group {number}: {counted(len(entry.photos), 'photo')}, {coordinates(latitude, longitude)}"
            places.append(Place(label, latitude, longitude, f"#g{number}", len(entry.photos) / len(entries[0].photos)))
    return map_chart("Where the groups are, by the positions in their photos", places) if places else ""


def _about(anchor: str, number: int, entry: GroupEntry) -> str:
    first = entry.photos[0]
    joined = counted(entry.pairs, "verified pair")
    same = f", {counted(entry.duplicates, 'near-duplicate')}" if entry.duplicates else ""
    return lines(
        f'<h2 id="{anchor}-name"><span class="quiet">Group {number}</span> {counted(len(entry.photos), "photo")}</h2>',
        f'<p class="quiet">{joined}{same}</p>',
        f'<p class="path">{text(first.path)}</p>', *_copies(first),
        f'<p class="quiet">the representative: it makes a pair with {first.partners} of them</p>',
        _where(first))


def _copies(photo: GroupPhoto) -> list[str]:
    return [f'<span class="path quiet">also as {text(path)}</span>' for path in photo.copies]


def _face(photo: GroupPhoto, thumbnail: str) -> list[str]:
    mark = '<span class="mark">near-duplicate</span>' if photo.duplicate_of is not None else ""
    like = "" if photo.duplicate_of is None else \
        f'<span class="quiet">nearly the same picture as {text(tail(photo.duplicate_of))}</span>'
    return [
        f'<span class="frame">{thumbnail}{mark}</span>',
        '<span class="facts">',
        f'<span class="path" title="{text(photo.path)}">{text(tail(photo.path))}</span>', *_copies(photo),
        f'<span class="quiet">{counted(photo.partners, "pair")}; <span>{counted(photo.inliers, "inlier")}</span> with '
        f"{text(tail(photo.closest))}</span>",
        like, _where(photo, "span"),
        "</span>",
    ]


def _where(photo: GroupPhoto, tag: str = "p") -> str:
    """When and where a photo was taken, as far as it says so."""
    known = [] if photo.captured_at is None else [text(moment(photo.captured_at))]
    if photo.position is not None:
        known.append(coordinates(*photo.position))
    return f'<{tag} class="quiet">{" · ".join(known)}</{tag}>' if known else ""


def coordinates(latitude: float, longitude: float) -> str:
    """A position in words: "43.29645° N, 5.36978° E"."""
    return (f"{abs(latitude):.5f}° {'N' if latitude >= 0 else 'S'}, "
            f"{abs(longitude):.5f}° {'E' if longitude >= 0 else 'W'}")


def _alone(alone: Sequence[str], options: GroupsOptions) -> str:
    if not alone:
        return ""
    rest = len(alone) - options.alone
    listed = _names(f"{counted(len(alone), 'photo')} in no group", alone[: options.alone], rest)
    return lines('<section class="plain">', listed, "</section>")


def _names(summary: str, paths: Sequence[str], rest: int = 0) -> str:
    """A list of names that opens."""
    if not paths:
        return ""
    more = [f"<li>and {rest:,} more</li>"] if rest > 0 else []
    return lines(f'<details class="names"><summary>{summary}</summary>', "<ul>",
                 *(f"<li>{text(path)}</li>" for path in paths), *more, "</ul>", "</details>")
