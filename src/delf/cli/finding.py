"""`delf photos` and `delf describe`: what photos a collection has, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from delf.cli.console import counted, print_json
from delf.cli.options import Folder, Json, Where

if TYPE_CHECKING:
    from delf.collection import StoredImage


def photos(
    collection: Folder,
    where: Where = None, json: Json = False,
) -> None:
    """List the photos of a collection, or those that meet a condition. With --json, each line is an object.

    A condition compares fields by =, !=, <, <=, >, >=, 'contains' and 'in (A, B)'; 'and', 'or', 'not' and parentheses
    join conditions. The fields are name, path, folder, date, place, latitude, longitude, camera, width, height,
    megapixels, bytes and key; any other name is a key of the metadata that 'delf describe' stores. 'has FIELD' is true
    of photos that have the field, and 'place within 2 km of 41.89,12.49' of photos that were taken there. Put values
    with spaces in quotes.

    Example: [bold]delf photos places.delf --where 'date = 2019 and not camera contains iphone'[/bold]
    """
    from delf.collection import Collection
    from delf.images import display_path

    with Collection.open(collection) as opened:
        for photo in opened.images(where):
            if json:
                print_json(photo_json(photo))
            else:
                print("  ".join([f"{(photo.captured_at or '')[:10]:<10}", display_path(photo.path)]))


def describe(
    collection: Folder,
    photo: Annotated[list[str] | None, typer.Argument(
        metavar="PHOTO", help="Describe these photos of the collection, given by their paths or keys.")] = None,
    settings: Annotated[list[str] | None, typer.Option(
        "--set", metavar="KEY=VALUE", help="Set this key of their metadata. A value that is JSON is stored as such, "
                                           "any other as text; without a VALUE the key is removed. You may repeat "
                                           "this.")] = None,
    table: Annotated[Path | None, typer.Option(
        "--from", metavar="FILE", help="Read a JSON object from each line of this file: 'photo' is the path or key of "
                                       "a photo, and all other keys are its metadata.")] = None,
    json: Json = False,
) -> None:
    """Store metadata with photos, by which they can be found. The metadata of a photo are a JSON object.

    Example: [bold]delf describe places.delf photos/a.jpg --set album=Rome --set 'tags=["sea", "night"]'[/bold]

    Example: [bold]delf describe places.delf --from metadata.jsonl[/bold]
    """
    from delf.collection import Collection
    from delf.errors import OptionError
    from delf.images import display_path

    if (table is None) == (not photo) or bool(photo) != bool(settings):
        raise OptionError("say of which photos what: delf describe COLLECTION PHOTO... --set KEY=VALUE, or "
                          "delf describe COLLECTION --from FILE")
    with Collection.open(collection) as opened:
        if table is not None:
            metadata = _from_lines(table)
        else:
            changes = dict(_setting(one) for one in settings or ())
            metadata = {one: _changed(opened[one].metadata, changes) for one in photo or ()}
        opened.describe(metadata)
    if json:
        print_json({"collection": str(collection), "described": len(metadata)})
    else:
        print(f"{display_path(collection)}: {counted(len(metadata), 'photo')} described")


def photo_json(photo: StoredImage) -> dict[str, Any]:
    """What `delf photos --json` prints of a photo."""
    known = photo.latitude is not None and photo.longitude is not None
    return {"image": photo.path, "key": photo.key, "file": str(photo.file), "second": photo.second,
            "files": [str(path) for path in photo.files], "keys": list(photo.keys),
            "size": list(photo.size), "taken": photo.captured_at,
            "gps": [photo.latitude, photo.longitude] if known else None, "camera": photo.camera,
            "metadata": dict(photo.metadata)}


def _setting(text: str) -> tuple[str, Any]:
    """A key and its value; `...` where the key is to go."""
    import json

    from delf.errors import OptionError

    key, equals, value = text.partition("=")
    if not key.strip() or not equals:
        raise OptionError(f"--set takes KEY=VALUE, such as album=Rome, not {text!r}")
    if not value:
        return key.strip(), ...
    try:
        return key.strip(), json.loads(value)
    except (ValueError, RecursionError):
        return key.strip(), value


def _changed(before: Any, changes: dict[str, Any]) -> dict[str, Any] | None:
    return {key: value for key, value in {**before, **changes}.items() if value is not ...} or None


def _from_lines(path: Path) -> dict[str | Path, dict[str, Any] | None]:
    """What the lines of a file say, by photo.

    Raises:
        DelfError: it cannot be read, or a line is no such object; the text says which.
    """
    import json

    from delf.errors import DelfError
    from delf.images import display_path

    metadata: dict[str | Path, dict[str, Any] | None] = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # `splitlines` would cut texts in two, as at U+2028
    except (OSError, UnicodeDecodeError) as error:
        raise DelfError(f"{display_path(path)} cannot be read ({error}); it is text in UTF-8, with a JSON object a "
                        "line") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            photo = record.pop("photo")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise DelfError(f"line {number} of {display_path(path)} is no JSON object with 'photo', such as "
                            '{"photo": "photos/a.jpg", "album": "Rome"}; nothing was changed') from error
        if not isinstance(photo, str):
            raise DelfError(f"line {number} of {display_path(path)} names no photo by its path or key; nothing was "
                            "changed")
        metadata[photo] = record or None
    return metadata
