"""Pictures of the collection: made anew, upright, without metadata, and cacheable by what they show."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from delf.collection import Collection
from delf.images import read_image


@pytest.fixture(scope="module")
def located(serve: Any, photos: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service on one photo, that lies on its side, knows where it was taken, and has a comment."""
    folder = tmp_path_factory.mktemp("located")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "SECRET-ARTIST"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2021:07:04 12:30:00"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({ExifTags.GPS.GPSLatitude: (43.0, 30.0, 0.0),
                                               ExifTags.GPS.GPSLatitudeRef: "N",
                                               ExifTags.GPS.GPSLongitude: (5.0, 15.0, 0.0),
                                               ExifTags.GPS.GPSLongitudeRef: "W"})
    Image.fromarray(read_image(photos / "rocket.jpg")).save(folder / "a.jpg", exif=exif, comment=b"SECRET-COMMENT")
    with Collection.create(folder / "places.delf", extractor) as collection:
        collection.add([folder / "a.jpg"])
    return serve(folder / "places.delf")


def test_metadata_stays_here(located: Any) -> None:
    about = located.http.get("/api/v1/images/0").json()
    assert about["gps"] == [43.5, -5.25] and about["taken"] == "2021-07-04T12:30:00"
    for what in ("thumbnail", "picture"):
        data = located.http.get(f"/api/v1/images/0/{what}").content
        assert b"SECRET" not in data and b"Exif" not in data
        with Image.open(io.BytesIO(data)) as picture:
            assert not picture.getexif() and "comment" not in picture.info
            assert picture.width < picture.height, "it is upright"
            assert about["size"][0] < about["size"][1]


def test_a_thumbnail_shows_the_photo(service: Any, collection: Any) -> None:
    response = service.http.get("/api/v1/images/3/thumbnail", params={"side": 100})
    assert response.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(response.content)) as picture, Image.open(collection.image(3).file) as photo:
        assert max(picture.size) == 100
        small = photo.convert("RGB").resize(picture.size, Image.Resampling.BOX)
        assert np.abs(np.asarray(picture, int) - np.asarray(small, int)).mean() < 8


def test_a_picture_is_not_made_larger(service: Any, collection: Any) -> None:
    with Image.open(io.BytesIO(service.http.get("/api/v1/images/3/picture").content)) as picture:
        assert list(picture.size) == service.http.get("/api/v1/images/3").json()["size"]


def test_caching(service: Any) -> None:
    key = service.http.get("/api/v1/images/3").json()["key"]
    path = "/api/v1/images/3/thumbnail"
    first = service.http.get(path)
    assert first.headers["cache-control"] == "private, no-cache"
    again = service.http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert service.http.get(path, params={"side": 64}, headers={"If-None-Match": first.headers["etag"]}).content
    kept = service.http.get(path, params={"v": key})
    assert kept.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert kept.content == first.content
    service.refused(service.http.get(path, params={"v": "another"}), 404, "not_found", "another photo by now")


@pytest.mark.parametrize("side", ["0", "15", "2049", "many", "-3"])
def test_sides_are_bounded(service: Any, side: str) -> None:
    service.refused(service.http.get("/api/v1/images/3/thumbnail", params={"side": side}), 422, "option", "side")


def test_a_photo_whose_file_is_gone(serve: Any, photos: Path, extractor: Any, tmp_path: Path) -> None:
    for name, sample in (("a.jpg", "coffee.jpg"), ("b.jpg", "cat.jpg")):
        shutil.copy(photos / sample, tmp_path / name)
    with Collection.create(tmp_path / "places.delf", extractor) as collection:
        collection.add([tmp_path / "a.jpg", tmp_path / "b.jpg"])
    one = serve(tmp_path / "places.delf")
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "b.jpg").write_bytes(b"something else by now")
    one.refused(one.http.get("/api/v1/images/0/thumbnail"), 404, "not_found", "is not there any more")
    one.refused(one.http.get("/api/v1/images/1/thumbnail"), 422, "image", "not an image")
    one.refused(one.post("search", id=0, box="1,1,50,50"), 404, "not_found", "is not there any more")
    assert one.search(id=0)["match"] is False, "its features are there"
    one.stop()
