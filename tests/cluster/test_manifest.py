from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from delf.cluster.facts import ImageFacts, facts_from_bytes, facts_to_bytes
from delf.cluster.manifest import FORMAT, Dropped, Manifest, SegmentEntry, StoredFile
from delf.collection.records import FileRecord, ImageRecord
from delf.errors import CollectionError

FILE = StoredFile("segment.bin", "ab" * 32, 7)
ENTRY = SegmentEntry("0" * 32, 3, 2, 60, (FILE,), StoredFile("facts-0123.jsonl", "cd" * 32, 9))
WHOLE = Manifest({"name": "stub", "fingerprint": "1"}, {"dimensions": 16}, {"kind": "compact", "words": "ef" * 32}, 4,
                 (StoredFile("words-1.words", "ef" * 32, 5),), (ENTRY,), (Dropped("segments/" + "1" * 32, 12.5),))


def test_a_manifest_comes_back() -> None:
    assert Manifest.from_json(WHOLE.to_json(), "here") == WHOLE
    assert (WHOLE.images, WHOLE.features, WHOLE.total_bytes, WHOLE.words) == (2, 60, 21, WHOLE.shared[0])
    assert WHOLE.next(segments=()).version == 5
    assert Manifest.from_json(json.dumps(unsealed()).encode(), "here") == WHOLE


def unsealed() -> dict[str, Any]:
    """What it says, without the digest of that."""
    said: dict[str, Any] = json.loads(WHOLE.to_json())
    del said["sha256"]
    return said


def test_a_newer_format_is_refused_with_the_cure() -> None:
    said = {**json.loads(WHOLE.to_json()), "format": FORMAT + 1, "new": 1}
    with pytest.raises(CollectionError, match=f"format {FORMAT + 1}.*upgrade delf-retrieval"):
        Manifest.from_json(json.dumps(said).encode(), "here")


@pytest.mark.parametrize("change", [
    {"segments": 3}, {"segments": [1]}, {"model": {}}, {"options": {"dimensions": "16"}}, {"version": -1},
    {"storage": []}, {"shared": [{"name": "../x", "sha256": "ef" * 32, "bytes": 1}]},
    {"shared": [{"name": "x", "sha256": "ef" * 31, "bytes": 1}]}, {"unknown": 1}, {"dropped": [{"path": "x/../y",
                                                                                              "since": 1}]},
    {"dropped": [{"path": "segments", "since": 1}]},
], ids=str)
def test_a_damaged_manifest_is_told_and_leads_nowhere(change: dict[str, Any]) -> None:
    said = {**unsealed(), **change}
    with pytest.raises(CollectionError, match="the manifest of the store here is damaged"):
        Manifest.from_json(json.dumps(said).encode(), "here")


@pytest.mark.parametrize("name", ["../" + "0" * 29, "0" * 31, ".hidden"])
def test_segments_have_the_names_that_we_give(name: str) -> None:
    said = unsealed()
    said["segments"][0]["name"] = name
    with pytest.raises(CollectionError, match="damaged"):
        Manifest.from_json(json.dumps(said).encode(), "here")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_anything_may_stand_in_a_manifest(data: bytes) -> None:
    with pytest.raises(CollectionError, match="damaged"):
        Manifest.from_json(data, "here")


def test_facts_come_back_with_any_file_name() -> None:
    image = ImageRecord(b"k" * 32, 640, 480, "2020-01-01 10:00:00", 1.5, -2.25, "a camera")
    facts = [ImageFacts(image, (FileRecord(b"/a/\xff\n.jpg", b"\xff", 5, -(2**62)),), '{"album": "\\n"}'),
             ImageFacts(replace(image, captured_at=None, latitude=None, longitude=None, camera=None), ())]
    data = facts_to_bytes(facts)
    assert facts_from_bytes(data, "here") == facts
    assert len(data.splitlines()) == 2


@pytest.mark.parametrize("line", [b"{}", b"1", b'{"key": "00", "size": [1, 1], "files": []}',
                                  b'{"key": "' + b"00" * 32 + b'", "size": [1, 1.5], "files": []}',
                                  b'{"key": "' + b"00" * 32 + b'", "size": [1, 1], "files": [1]}',
                                  b'{"key": "' + b"00" * 32 + b'", "size": [1, 1], "files": [], "camera": 1}'])
def test_damaged_facts_are_told(line: bytes) -> None:
    with pytest.raises(CollectionError, match="here is damaged"):
        facts_from_bytes(line, "here")
