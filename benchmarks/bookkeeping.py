"""What a store of many photos costs the machine that keeps its manifest.

    python benchmarks/bookkeeping.py [--images 100000] [--piece 512]

A store of segments without arrays, with what is known of made-up images; then a tenth as many in pieces that are put
into the manifest, of which one in a hundred is a copy. Memory is the peak of the process beyond what it had before.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from delf.cluster import SegmentEntry, Store, StoredFile
from delf.cluster.facts import ImageFacts
from delf.cluster.folding import Known, folded, hash_of
from delf.collection.records import FileRecord, ImageRecord

ABOUT = {"model": {"name": "none", "fingerprint": "0"}, "options": {"dimensions": 128}}
COPIES = 100  # one image in so many is a copy


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--piece", type=int, default=512)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        store = Store.create(Path(place) / "made.store", ABOUT)
        entries = list(made(store, range(arguments.images), arguments.piece, copies=0))
        store.publish(store.manifest.next(segments=tuple(entries)))
        new = range(arguments.images, arguments.images + arguments.images // 10)
        fresh = list(made(store, new, arguments.piece, COPIES))
        before, began = peak(), time.process_time()
        known = Known.of(store.facts(entry) for entry in store.manifest.segments)
        looked, held = time.process_time() - began, peak() - before
        began = time.process_time()
        manifest, copies = folded(store, known, fresh)
        joined = time.process_time() - began
    facts = sum(entry.facts.bytes for entry in entries) / arguments.images
    print(f"| images | {arguments.images:,} in {len(entries):,} segments |\n|---|---|")
    print(f"| what is known of an image | {facts:.0f} bytes |")
    print(f"| manifest | {len(manifest.to_json()) / len(manifest.segments):.0f} bytes a segment |")
    print(f"| all of it read | {looked:.2f} s computed, {looked / arguments.images * 1e6:.0f} s a million images |")
    print(f"| memory for that | {held:,} MiB, of which {arrays(known) / arguments.images:.0f} bytes an image stay |")
    print(f"| {len(new):,} new images put in, {copies:,} of them copies | {joined:.2f} s computed |")


def made(store: Store, numbers: range, piece: int, copies: int) -> Iterator[SegmentEntry]:
    """Segments of made-up images, whose facts are in the store."""
    for start in range(numbers.start, numbers.stop, piece):
        facts = [image(number, number - numbers.start if copies and number % copies == 0 else number)
                 for number in numbers[start - numbers.start :][:piece]]
        name = f"{start:032x}"
        file = store.write_facts(name, facts)
        array = StoredFile("segment.bin", f"{start:064x}", 20_000 * len(facts))
        yield SegmentEntry(name, len(facts), len(facts), 640 * len(facts), (array,), file)


def image(number: int, content: int) -> ImageFacts:
    """A photo, as a camera and a bucket would name it."""
    path = f"s3://photos/2019/holidays/{number // 1000:06}/IMG_{number:09}.jpg".encode()
    key = b"".join(hash_of(str(content).encode(), bytes([part])).to_bytes(8, "little") for part in range(4))
    record = ImageRecord(key, 4032, 3024, "2019-07-14 16:30:00", 48.8583, 2.2945, "Some Camera X100")
    return ImageFacts(record, (FileRecord(path, path, 3_000_000 + number, 1_563_121_800_000_000_000 + number),))


def arrays(known: Known) -> int:
    """Bytes of what is kept in memory."""
    return sum(array.nbytes for array in vars(known).values())


def peak() -> int:
    """MiB of this process at most, so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
