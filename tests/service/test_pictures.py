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
def located(hosted_on: Any, photos: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
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
    return hosted_on(folder / "places.delf")


def test_metadata_stays_here(located: Any) -> None:
    about = located.http.get("/api/v1/images").json()["images"][0]
    assert about["gps"] == [43.5, -5.25] and about["taken"] == "2021-07-04T12:30:00"
    for what in ("thumbnail", "picture"):
        data = located.http.get(f"/api/v1/images/{about['key']}/{what}").content
        assert b"SECRET" not in data and b"Exif" not in data
        with Image.open(io.BytesIO(data)) as picture:
            assert not picture.getexif() and "comment" not in picture.info
            assert picture.width < picture.height, "it is upright"
            assert about["size"][0] < about["size"][1]


def test_a_thumbnail_shows_the_photo(service: Any, keys: dict[str, str], photos: Path) -> None:
    response = service.http.get(f"/api/v1/images/{keys['cat.jpg']}/thumbnail", params={"side": 100})
    assert response.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(response.content)) as picture, Image.open(photos / "cat.jpg") as photo:
        assert max(picture.size) == 100
        small = photo.convert("RGB").resize(picture.size, Image.Resampling.BOX)
        assert np.abs(np.asarray(picture, int) - np.asarray(small, int)).mean() < 8


def test_a_picture_is_not_made_larger(service: Any, keys: dict[str, str]) -> None:
    path = f"/api/v1/images/{keys['cat.jpg']}"
    with Image.open(io.BytesIO(service.http.get(f"{path}/picture").content)) as picture:
        assert list(picture.size) == service.http.get(path).json()["size"]


def test_caching(service: Any, keys: dict[str, str]) -> None:
    path = f"/api/v1/images/{keys['cat.jpg']}/thumbnail"
    first = service.http.get(path)
    assert first.headers["cache-control"] == "private, no-cache"
    again = service.http.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert service.http.get(path, params={"side": 64}, headers={"If-None-Match": first.headers["etag"]}).content


@pytest.mark.parametrize("side", ["0", "15", "2049", "many", "-3"])
def test_sides_are_bounded(service: Any, keys: dict[str, str], side: str) -> None:
    response = service.http.get(f"/api/v1/images/{keys['cat.jpg']}/thumbnail", params={"side": side})
    service.refused(response, 422, "option", "side")


def test_a_photo_whose_file_is_gone(hosted_on: Any, extractor: Any, keys: dict[str, str], photos: Path,
                                    tmp_path: Path) -> None:
    """It is said to be gone, and nothing else is shown in its place; a copy of it is, where there is one."""
    for name in ("coffee.jpg", "cat.jpg", "cell.jpg"):
        shutil.copy(photos / name, tmp_path / name)
    (tmp_path / "copies").mkdir()
    shutil.copy(photos / "cell.jpg", tmp_path / "copies" / "z.jpg")
    with Collection.create(tmp_path / "places.delf", extractor) as collection:
        collection.add([tmp_path / name for name in ("coffee.jpg", "cat.jpg", "cell.jpg", "copies")])
    client = hosted_on(tmp_path / "places.delf").http

    def thumbnail(name: str, **headers: str) -> Any:
        return client.get(f"/api/v1/images/{keys[name]}/thumbnail", headers=headers)

    def gone(response: Any) -> str:
        assert (response.status_code, response.json()["error"]["code"]) == (404, "file_gone"), response.text
        return str(response.json()["error"]["message"])

    tag = thumbnail("coffee.jpg").headers["etag"]
    (tmp_path / "coffee.jpg").unlink()
    shutil.copy(photos / "rocket.jpg", tmp_path / "cat.jpg")
    (tmp_path / "cell.jpg").unlink()
    assert "is not there any more" in gone(thumbnail("coffee.jpg", **{"If-None-Match": tag}))
    assert "has another content by now" in gone(client.get(f"/api/v1/images/{keys['cat.jpg']}/picture"))
    assert thumbnail("cell.jpg").status_code == 200
    cell = client.get(f"/api/v1/images/{keys['cell.jpg']}").json()
    assert (cell["name"], cell["file"]) == ("z.jpg", str(tmp_path / "copies" / "z.jpg"))
    assert cell["files"] == [cell["file"]]
    for name in ("coffee.jpg", "cat.jpg"):
        form = {"id": (None, keys[name])}
        gone(client.post("/api/v1/search", files=form | {"box": (None, "1,1,50,50")}))
        assert client.post("/api/v1/search", files=form).json()["match"] is False, "its features are there"
