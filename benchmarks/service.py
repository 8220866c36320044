"""How long a search takes over HTTP, and how many are answered, by the number of clients that ask at once.

    python benchmarks/service.py PHOTOS --collection big.delf [--images 10000] [--source places.delf] [--seconds 40]

A collection that is not there yet is made of the features of a real one (SOURCE, made by `delf index` with the packaged
model; by default from PHOTOS): first its images, then images made from them, with half of the features of one of them
and half of another, noise in every descriptor, and keypoints that are shuffled, as those of photos of other places are.

The service is `delf serve` in a process of its own, the load comes from another one, over loopback. Each client sends
its next search when it has the answer to the last (a closed loop), with a photo that the service has not seen, so that
nothing is kept from before. Refused ones (429) come again after the time that the service asks for, and that waiting is
part of their latency. Photos of the collection (500 of them) are searched by key as well, which takes no extraction.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

from delf.calling import multipart
from delf.collection import Collection
from delf.features import Delf
from delf.images import find_images
from delf.search import SearchEngine
from delf.types import Features, ImageArray

NOISE = 0.04  # of each component of a descriptor: cosines of about 0.9 with what it was made from
KINDS = ("upload", "id")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="photos to search with")
    parser.add_argument("--collection", type=Path, required=True)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--source", type=Path, help="the collection whose features are used")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=40.0, help="of each row")
    parser.add_argument("--method", default="delf-asmk")
    parser.add_argument("--serve", nargs="*", default=[], metavar="OPTION", help="more for delf serve, as workers=1")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(load(arguments.load, arguments)))
        return
    if not Collection.exists(arguments.collection):
        make(arguments)
    with Serving(arguments) as (url, process):
        print(f"{json.loads(get(url, '/api/v1/collection'))['images']:,} images, method {arguments.method}, "
              f"{os.cpu_count()} cores, {' '.join(arguments.serve) or 'options as they are'}\n")
        print("| query | clients | searches/s | median s | 90% | 99% | longest | refused | "
              "median s of the stages |\n|---|---|---|---|---|---|---|---|---|")
        for kind, clients in itertools.product(arguments.kinds, arguments.clients):
            print(row(kind, clients, measured(url, arguments, kind, clients)), flush=True)
        print(f"\npeak memory of the service: {peak(process.pid)}")


# --- the collection


class Made:
    """An extractor that computes nothing: features of a real collection, and such as are made from them."""

    longest_side = 32  # pixels: none are looked at
    threads = 1

    def __init__(self, source: Collection, extractor: Delf, seed: int = 0) -> None:
        self.identity: dict[str, Any] = extractor.identity
        self.global_dimensions = extractor.global_dimensions
        self._source = [source.features(int(ordinal)) for ordinal in np.flatnonzero(source.alive)]
        self._rng = np.random.default_rng(seed)
        self._given = 0

    def extract_many(self, images: Iterable[tuple[ImageArray, tuple[int, int]]]) -> Iterator[Features]:
        """The next features, whatever the images."""
        for _ in images:
            self._given += 1
            yield self._source[self._given - 1] if self._given <= len(self._source) else self._mixed()

    def extract(self, image: ImageArray, *, image_size: tuple[int, int] | None = None) -> Features:
        """The next features, whatever the image."""
        return next(self.extract_many([(image, image_size or (1, 1))]))

    def _mixed(self) -> Features:
        one, other = (self._source[number] for number in self._rng.integers(len(self._source), size=2))
        count = min(len(one), len(other))
        own = self._rng.random(count) < 0.5
        descriptors = np.where(own[:, None], one.descriptors[:count], other.descriptors[:count])
        moved = descriptors + self._rng.standard_normal(descriptors.shape, np.float32) * np.float32(NOISE)
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        return replace(one.select(slice(0, count)), descriptors=moved.astype(np.float32),
                       keypoints=one.keypoints[self._rng.permutation(count)])


def make(arguments: argparse.Namespace) -> None:
    """Make the collection and what searching it needs."""
    extractor, start = Delf.load(), time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        source = arguments.source or Path(place) / "source.delf"
        with Collection.open_or_create(source, extractor) as real:
            if not len(real):
                real.add(arguments.photos)
            made = Made(real, extractor)
        pictures = Path(place) / "pictures"
        pictures.mkdir()
        for number in range(arguments.images):  # each content is stored once, so that all must differ
            pixels = np.frombuffer(number.to_bytes(12, "little"), np.uint8).reshape(2, 2, 3)
            Image.fromarray(pixels).resize((16, 16), Image.Resampling.NEAREST).save(pictures / f"{number:06}.png")
        with Collection.create(arguments.collection, made) as collection:
            collection.add(pictures)
    with Collection.open(arguments.collection) as collection:
        SearchEngine(collection, extractor, method=arguments.method)
        print(f"{len(collection):,} images with {collection.rows:,} features, made in "
              f"{time.perf_counter() - start:.0f} s", file=sys.stderr)


# --- the service


class Serving:
    """`delf serve` in a process of its own."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        options = [part for option in arguments.serve for part in (f"--{option.partition('=')[0]}",
                                                                   option.partition("=")[2])]
        self._process = subprocess.Popen([sys.executable, "-m", "delf", "serve", arguments.collection, "--port", "0",
                                          "--quiet", "--methods", arguments.method, *options],
                                         stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> tuple[str, subprocess.Popen[str]]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if " at http" not in line:
            raise SystemExit("the service did not start")
        return line.rpartition(" at ")[2].strip().rstrip("/"), self._process

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def get(url: str, path: str) -> bytes:
    """The body of an answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=60)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


def peak(process: int) -> str:
    """The most memory that a process had, where the system says."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return "not known here"
    return next(f"{int(line.split()[1]) / 1024:,.0f} MiB" for line in lines if line.startswith("VmHWM"))


# --- the load


@dataclass
class Answers:
    """What the clients got. latencies: seconds of the answered ones, from the first attempt on."""

    latencies: list[float] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)
    refused: int = 0
    failed: int = 0


def measured(url: str, arguments: argparse.Namespace, kind: str, clients: int) -> dict[str, Any]:
    """The answers to the load of a process of its own."""
    command = [sys.executable, __file__, arguments.photos, "--collection", arguments.collection, "--load", url,
               "--clients", str(clients), "--seconds", str(arguments.seconds), "--method", arguments.method,
               "--kinds", kind]
    done: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return done


def load(url: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Let clients search for a while."""
    photos = [path.read_bytes() for path in itertools.islice(find_images([arguments.photos]), 64)]
    keys = [image["key"] for image in json.loads(get(url, "/api/v1/images?limit=500"))["images"]]
    answers, lock = Answers(), threading.Lock()
    end = time.monotonic() + arguments.seconds

    def client(number: int) -> None:
        rng = np.random.default_rng(number)
        while time.monotonic() < end:
            fields, photo = {"method": arguments.method, "top": "24"}, None
            if arguments.kinds == ["id"]:
                fields["id"] = keys[rng.integers(len(keys))]
            else:  # what follows the end of a JPEG changes its digest and nothing else
                photo = photos[rng.integers(len(photos))] + secrets.token_bytes(8)
            search(url, *multipart(fields, [] if photo is None else [photo]), answers, lock)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(arguments.clients[0])]
    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": time.monotonic() - start, "latencies": answers.latencies, "stages": answers.stages,
            "refused": answers.refused, "failed": answers.failed,
            "cpu": sum(resource.getrusage(resource.RUSAGE_SELF)[:2])}


def search(url: str, body: bytes, headers: dict[str, str], answers: Answers, lock: threading.Lock) -> None:
    """Search until there is an answer."""
    parts, start = urlsplit(url), time.perf_counter()
    while True:
        connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=120)
        connection.request("POST", "/api/v1/search", body, headers)
        response = connection.getresponse()
        found = json.loads(response.read())
        connection.close()
        with lock:
            if response.status == 200:
                answers.latencies.append(time.perf_counter() - start)
                answers.stages.append(found["seconds"])
                return
            if response.status not in (429, 503):
                answers.failed += 1
                return
            answers.refused += 1
        time.sleep(float(response.headers["Retry-After"]))


def row(kind: str, clients: int, found: dict[str, Any]) -> str:
    """One line of the table."""
    assert not found["failed"], "an answer was an error"
    stages = {name: statistics.median(one.get(name, 0.0) for one in found["stages"])
              for name in dict.fromkeys(name for one in found["stages"] for name in one)}
    shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in stages.items() if seconds >= 0.005)
    middle, most, nearly, longest = quantiles(found["latencies"], (0.5, 0.9, 0.99, 1.0))
    return (f"| {kind} | {clients} | {len(found['latencies']) / found['seconds']:.2f} | {middle:.2f} | {most:.2f} | "
            f"{nearly:.2f} | {longest:.2f} | {found['refused']} | {shown} |")


def quantiles(seconds: Sequence[float], shares: Sequence[float]) -> list[float]:
    """Of latencies."""
    return [float(value) for value in np.quantile(seconds, shares)]


if __name__ == "__main__":
    main()
