"""Positions as they are: exact distances, files of people and spreadsheets, wrong ones, and real photos of several
places.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from delf.archive import build_dataset
from delf.archive.geography import EARTH_KM, dense_clusters, distances_km
from delf.cli.archive import _print_built
from delf.errors import DelfError

HEAD = "file,latitude,longitude\n"
THINGS = ("astronaut", "coffee", "rocket")


def haversine_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """The distance as it is in books, without points of a sphere in space."""
    (north, east), (other_north, other_east) = (map(math.radians, place) for place in (one, other))
    inside = (math.sin((other_north - north) / 2) ** 2
              + math.cos(north) * math.cos(other_north) * math.sin((other_east - east) / 2) ** 2)
    return 2 * EARTH_KM * math.asin(math.sqrt(inside))


def test_distances_are_those_of_the_haversine_formula() -> None:
    rng = np.random.default_rng(0)
    first = np.column_stack([rng.uniform(-90, 90, 300), rng.uniform(-180, 180, 300)])
    near = first + rng.normal(0, 1e-4, first.shape)
    near[:, 0] = near[:, 0].clip(-90, 90)
    special = np.array([(0, 180), (89.9999, 0), (-90, 77), (51.5, 0)], float)
    others = np.array([(0, -180), (89.9999, 180), (-90, -12), (-51.5, 179.9)], float)
    for one, other in ((first, first[::-1]), (first, near), (special, others)):
        expected = [haversine_km(a, b) for a, b in zip(one.tolist(), other.tolist(), strict=True)]
        np.testing.assert_allclose(distances_km(one, other), expected, rtol=1e-6, atol=2e-5)  # of 2 cm
    assert distances_km(np.array([(48.8584, 2.2945)]), np.array([(51.5007, -0.1246)]))[0] == pytest.approx(340.5, abs=1)


@pytest.mark.parametrize("centre", [(43.95, 4.81), (0.0, 180.0), (90.0, 0.0), (-89.999, 130.0), (12.0, -179.9995)])
def test_clusters_are_those_of_all_haversine_distances(centre: tuple[float, float]) -> None:
    rng = np.random.default_rng(3)
    north = np.clip(centre[0] + rng.normal(0, 0.004, 90), -90, 90)
    east = centre[1] + rng.normal(0, 0.004, 90) / max(0.01, math.cos(math.radians(centre[0])))
    positions = np.column_stack([north, (east + 180) % 360 - 180])
    positions[:30] = positions[0]
    distances = np.array([[haversine_km(a, b) for b in positions.tolist()] for a in positions.tolist()])
    near = distances <= 0.2
    core = near.sum(axis=1) >= 3
    reached = near & core & core[:, None]
    for _ in range(7):  # a path among 90 is found in 7 squarings
        reached = (reached.astype(int) @ reached) > 0
    found = dense_clusters(positions, 0.2, 3)
    assert np.array_equal(((found[:, None] == found) & (found >= 0))[np.ix_(core, core)], reached[np.ix_(core, core)])
    assert np.array_equal(found >= 0, (near & core).any(axis=1))


@pytest.mark.parametrize("text", [
    "file;latitude;longitude\nin/0.png;48,85;2,35\n", "\ufefffile,latitude,longitude\r\nin/0.png,48.85,2.35\r\n",
    " Longitude,File , LATITUDE,camera\n2.35,in/0.png,48.85,x\n", 'file,latitude,longitude\n"0.png","48,85"," 2,35 "\n',
    "file\tlatitude\tlongitude\nin/0.png\t48,85\t2,35\n", "file,latitude,longitude\nin/0.png,48.85,2.35,120\n",
    "file,latitude,longitude\n\n{absolute},48.85,2.35,more,cells\n./in/../in/0.png,48.85,2.35\n"])
def test_what_spreadsheets_write_is_read(stub: Any, draw: Callable[..., Path], tmp_path: Path, text: str,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    absolute = draw("in/0.png", 0)
    where = Path("in/where.csv" if '"0.png"' in text else "where.csv")  # names are relative to it as well
    for encoding in ("utf-8", "utf-16"):
        marked = text.removeprefix("\ufeff") if encoding == "utf-16" else text
        where.write_text(marked.replace("{absolute}", str(absolute)), encoding=encoding, newline="")
        built = build_dataset(["in"], "out", stub, positions=where)
        assert [(row.latitude, row.longitude) for row in built.photos] == [(48.85, 2.35)]
        assert built.remarks == []


def test_lines_that_say_nothing_or_contradict_are_told(stub: Any, draw: Callable[..., Path], tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        draw(f"in/{number}.png", number)
    Path("where.csv").write_text(f"{HEAD}in/0.png,1,2\nin/0.png,3,4\nin/0.png,3,4\nin/1.png\nin/2.png,5\n"
                                 "in/\0.png,1,2\nin/2.png,inf,nan\nin/2.png,48°51'N,2\nin/1.png,90,-180\n")
    built = build_dataset(["in"], "out", stub, positions="where.csv")
    assert [(row.latitude, row.longitude) for row in built.photos] == [(3, 4), (90, -180), (None, None)]
    told = [remark.rpartition("line ")[2] for remark in built.remarks]
    assert told == ["7", "6, 8, 9", "3, 10"], built.remarks
    Path("where.csv").unlink()
    with pytest.raises(DelfError, match=r"put it back, or name another one with --positions"):
        build_dataset([], "out", stub)
    Path("none.csv").write_text(HEAD)
    assert all(row.latitude is None for row in build_dataset([], "out", stub, positions="none.csv").photos)


def test_numbers_with_commas_between_commas_are_no_position(stub: Any, draw: Callable[..., Path], tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw("in/0.png", 0)
    Path("where.csv").write_text(f"{HEAD}in/0.png,48,85,2,35\n")
    built = build_dataset(["in"], "out", stub, positions="where.csv")
    assert built.photos[0].latitude is None, "and not 48 degrees north, 85 east"
    assert "semicolons between cells" in built.remarks[0]
    Path("where.csv").write_text("file,lat,lon\nin/0.png,48,2\n")
    with pytest.raises(DelfError, match=r"needs the columns file,latitude,longitude .* has 'file,lat,lon'"):
        build_dataset([], "out", stub)


def test_wrong_clocks_and_absurd_exif_change_nothing(stub: Any, draw: Callable[..., Path], tmp_path: Path) -> None:
    gps = [{1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)},
           {1: "N", 2: (91.0, 0.0, 0.0), 3: "E", 4: (1.0, 0.0, 0.0)}, {1: "N", 2: (48.0, 0.0, 0.0)},
           {1: "N", 2: (48.0, 30.0, 0.0), 3: "W", 4: (2.0, 0.0, 0.0)}]
    for number, (position, time) in enumerate(zip(gps, ("0000:00:00 00:00:00", "9999:12:31 23:59:59",
                                                        "1970:01:01 00:00:00", "not a time"), strict=True)):
        exif = Image.Exif()
        exif[ExifTags.Base.GPSInfo] = position
        exif[ExifTags.Base.ExifOffset] = {ExifTags.Base.DateTimeOriginal: time}
        draw(f"in/{number}.png", number, exif=exif)
    built = build_dataset([tmp_path / "in"], tmp_path / "out", stub)
    assert [(row.latitude, row.longitude) for row in built.photos] == [(None, None)] * 3 + [(48.5, -2)]
    assert {row.group for row in built.photos} == {None}


def test_a_place_has_several_sights_and_a_sight_wrong_positions(
        photos: Path, extractor: Any, places: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real photos, positions by hand: all sights in one square but for one photo of each, which says another continent;
    and a crowd of others at the same place.
    """
    where = tmp_path / "where.csv"

    def build(positions: dict[str, tuple[float, float]]) -> tuple[dict[str, str], Any]:
        where.write_text(HEAD + "".join(f"{photos / name}.jpg,{north},{east}\n"
                                        for name, (north, east) in positions.items()))
        built = build_dataset([], tmp_path / "out", extractor, collection=places, positions=where)
        with (tmp_path / "out" / "groups.csv").open(newline="") as file:
            return {Path(name).stem: group for name, group in list(csv.reader(file))[1:]}, built

    names = sorted(path.stem for path in photos.iterdir())
    square = {name: (48.8530 + at * 1e-5, 2.3499) for at, name in enumerate(names)}
    for positions in (square, square | {f"{thing}-side": (-33.8568, 151.2153) for thing in THINGS},
                      square | {"coffee": (12.0, 179.9999), "coffee-side": (12.0, -179.9999)}, {}):
        groups, built = build(positions)
        for thing in THINGS:
            assert groups[thing] == groups[f"{thing}-side"] != "", "one sight, wherever its photos say they are"
        assert len({groups[thing] for thing in THINGS}) == 3, "one place, several sights"
        assert {name for name, group in groups.items() if group} == {*THINGS, *(f"{thing}-side" for thing in THINGS)}
    groups, built = build(square | {f"{thing}-side": (-33.8568, 151.2153) for thing in THINGS})
    taken = {place: {Path(row.file).stem for row in built.photos if row.place == place} for place in (0, 1)}
    assert sorted(map(len, taken.values())) == [3, 9]
    assert [row.places for row in built.landmarks] == [2, 2, 2], "each was photographed in two places, so they say"
    _print_built(built)
    assert "12 of 12 photos have a position, in 2 places" in capsys.readouterr().out


def test_exif_of_real_photos_over_the_date_line_and_at_the_pole(half_size: Path, extractor: Any,
                                                                tmp_path: Path) -> None:
    gps = {"coffee": ("N", 12.0, "E", 179.9999), "coffee-side": ("N", 12.0, "W", 179.9999),
           "rocket": ("S", 90.0, "E", 10.0), "rocket-side": ("S", 89.9999, "W", 170.0),
           "astronaut": ("N", 0.0, "E", 0.0), "astronaut-side": ("N", 95.0, "E", 200.0)}
    (tmp_path / "in").mkdir()
    for name, (north, latitude, east, longitude) in gps.items():
        with Image.open(half_size / f"{name}.jpg") as image:
            exif = image.getexif()
            exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: north, 2: (latitude, 0.0, 0.0), 3: east,
                                                       4: (longitude, 0.0, 0.0)})
            exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2999:12:31 23:59:59"
            image.save(tmp_path / "in" / f"{name}.jpg", exif=exif, quality=92)
    built = build_dataset([tmp_path / "in"], tmp_path / "out", extractor)
    middles = {Path(row.representative).stem.removesuffix("-side"): row for row in built.landmarks}
    assert {name: row.photos for name, row in middles.items()} == dict.fromkeys(THINGS, 2)
    assert (middles["coffee"].latitude, abs(middles["coffee"].longitude or 0)) == pytest.approx((12, 180))
    assert middles["rocket"].latitude == pytest.approx(-90, abs=1e-4)
    assert middles["astronaut"].latitude is None
    assert {Path(row.file).stem: row.latitude for row in built.photos}["astronaut-side"] is None
