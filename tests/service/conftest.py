"""The service as a user starts it: a process of its own, asked over loopback."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra 'serve'")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")

TOKEN = "a-token-that-nobody-guesses"
T = TypeVar("T")
EMPTY = [("method", (None, "delf"))]  # httpx makes no form of nothing
MODEL, FEATURES = "delf-r18-int8", 500  # the quickest, with few features of a photo: what is tried is the service
SECONDS = 120  # after which a service that does not start, or end, has failed


@dataclass
class Asked:
    """A service that runs, and a client of it."""

    url: str
    http: Any = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=self.url, timeout=SECONDS)

    def search(self, photo: Path | None = None, **fields: Any) -> Any:
        """The answer to a search that is to go well."""
        return self.post("search", photo, **fields).raise_for_status().json()

    def post(self, what: str, photo: Path | bytes | None = None, headers: Any = None, **fields: Any) -> Any:
        """The response to a form with a photo."""
        data = photo.read_bytes() if isinstance(photo, Path) else photo
        parts: list[Any] = [(name, (None, str(value))) for name, value in fields.items()]
        parts += [] if data is None else [("image", ("photo.jpg", data))]
        return self.http.post(f"/api/v1/{what}", files=parts or EMPTY, headers=headers)

    def refused(self, response: Any, status: int, code: str, *words: str) -> str:
        """The sentence of an answer that is an error."""
        assert response.status_code == status, response.text
        error = response.json()["error"]
        assert error["code"] == code
        for word in words:
            assert word in error["message"]
        return str(error["message"])

    def metric(self, name: str) -> float:
        """The value of a metric, summed over its labels."""
        text = self.http.get("/metrics").text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something that is to become true."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < end, "it did not become true"
            time.sleep(0.02)


@dataclass
class Served(Asked):
    """A service in a process of its own. log: the file of its stderr."""

    process: subprocess.Popen[str]
    log: Path

    def memory(self) -> int:
        """Bytes that the process has in memory."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the service; its exit code."""
        self.http.close()
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


class Hosted(Asked):
    """A service in this process, which begins in no time. lasting: whether it serves more than the test at hand."""

    lasting = False

    def __init__(self, app: Any, options: Any = None) -> None:
        """options: of the service, whose limits on connections hold."""
        from delf.service.options import ServiceOptions
        from delf.service.server import configured

        listening = socket.create_server(("127.0.0.1", 0))
        self._server = uvicorn.Server(configured(app, options or ServiceOptions()))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]})
        self._thread.start()
        super().__init__(f"http://127.0.0.1:{listening.getsockname()[1]}")

    def stop(self) -> None:
        """End the service."""
        self.http.close()
        self._server.should_exit = True
        self._thread.join()


def in_a_thread(scene: Coroutine[Any, Any, T]) -> T:
    """What `asyncio.run` gives, also where a browser has left an event loop running in this thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, scene).result()


@pytest.fixture(scope="session")
def run_scene() -> Callable[[Coroutine[Any, Any, T]], T]:
    """Runs a coroutine to its end."""
    return in_a_thread


Serve = Callable[..., Served]
Copied = Callable[[Path], Path]


@pytest.fixture(scope="session")
def extractor() -> Any:
    """The quickest model, with few features: what is tried here is the service."""
    from delf.features import Delf

    return Delf.load(MODEL, runtime="onnx", threads=2, max_features=FEATURES)


@pytest.fixture(scope="session")
def collection(photos: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """`photos`, indexed with that model, and prepared for every method. Read only."""
    from delf.collection import Collection
    from delf.indexing import build_index
    from delf.methods import METHODS
    from delf.search import SearchEngine

    with Collection.create(tmp_path_factory.mktemp("served") / "places.delf", extractor) as made:
        made.add([photos])
        build_index(made)
        for method in METHODS:
            SearchEngine(made, extractor, method=method)
        yield made


@pytest.fixture(scope="session")
def keys(photos: Path) -> dict[str, str]:
    """The key of each of `photos`, by the name of the file."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in photos.iterdir()}


@pytest.fixture(scope="session")
def token() -> str:
    """What clients of `writable` show."""
    return TOKEN


@pytest.fixture(scope="session")
def copied(collection: Any) -> Copied:
    """Copies the collection of `photos` into a folder; its photos lie where they lay."""
    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(collection.folder, folder / "places.delf",
                                    ignore=shutil.ignore_patterns("*.lock", "*-shm")))

    return copy


@pytest.fixture(scope="session")
def built(collection: Any, photos: Path, extractor: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of `photos`: three groups of two. To be copied, and not to be changed."""
    from delf.archive import COLLECTION, build_dataset

    folder = tmp_path_factory.mktemp("built") / "landmarks"
    shutil.copytree(collection.folder, folder / COLLECTION, ignore=shutil.ignore_patterns("*.lock", "*-shm"))
    build_dataset([photos], folder, extractor)
    return folder


@pytest.fixture
def reviewed(hosted: Any, built: Path, extractor: Any, token: str, tmp_path: Path) -> Iterator[Hosted]:
    """The page for decisions on a copy of that, `tmp_path / "landmarks"`, with the token in its client."""
    from delf.archive import collection_of
    from delf.service.library import Library
    from delf.service.options import ServiceOptions
    from delf.service.reviewing import create_review_app

    folder = shutil.copytree(built, tmp_path / "landmarks", ignore=shutil.ignore_patterns("*.lock", "*-shm"))
    library = Library(collection_of(folder), extractor, methods=())
    one: Hosted = hosted(create_review_app(folder, library, ServiceOptions(token=token, watch_seconds=0.05)))
    one.http.headers["Authorization"] = f"Bearer {token}"
    yield one
    one.stop()


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Starts a service on a collection, with more arguments of `delf serve`."""
    running: list[Served] = []

    def start(collection: Path, *arguments: str | Path, **environment: str) -> Served:
        log = tmp_path_factory.mktemp("serve") / "log"
        unwanted = ("COV", "DELF")
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "delf", "serve", collection, "--port", "0", "--model", MODEL,
                 "--runtime", "onnx", *arguments],
                env={key: value for key, value in os.environ.items() if not key.startswith(unwanted)} | environment,
                stdout=subprocess.PIPE, stderr=stream, text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], SECONDS)
        line = process.stdout.readline() if ready else ""
        found = re.fullmatch(r".*: [\d,]+ images? at (http://\S+)/\n", line)
        if found is None:
            process.kill()
            process.communicate()
            pytest.fail(f"the service did not start: {line} {log.read_text()}")
        running.append(Served(found[1], process, log))
        return running[-1]

    yield start
    for one in running:
        one.http.close()
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
        if one.process.stdout:
            one.process.stdout.close()
        assert "Traceback" not in one.log.read_text(), one.log.read_text()


@pytest.fixture(scope="session")
def running() -> Iterator[list[Hosted]]:
    """The services in this process."""
    started: list[Hosted] = []
    yield started
    for one in started:
        one.stop()


@pytest.fixture(scope="session")
def hosted(running: list[Hosted]) -> Callable[..., Hosted]:
    """Answers by an application in this process."""
    def start(app: Any, options: Any = None) -> Hosted:
        running.append(Hosted(app, options))
        return running[-1]

    return start


@pytest.fixture(autouse=True)
def services_end_with_their_test(running: list[Hosted]) -> Iterator[None]:
    """Each looks at its collection all the time. Those of fixtures for several tests are there before."""
    before = list(running)
    yield
    for one in [one for one in running if one not in before and not one.lasting]:
        one.stop()
        running.remove(one)


@pytest.fixture(scope="session")
def hosted_on(hosted: Any, extractor: Any) -> Callable[..., Hosted]:
    """A service in this process on a collection, which it looks at often. options: of the service."""
    def start(folder: Path, methods: list[str] | None = None, **options: Any) -> Hosted:
        from delf.service.app import create_app
        from delf.service.library import Library
        from delf.service.options import ServiceOptions

        chosen = ServiceOptions(watch_seconds=0.05, **options)
        return hosted(create_app(Library(folder, extractor, methods or ["delf-asmk"]), chosen), chosen)

    return start


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three small pictures."""
    folder = tmp_path_factory.mktemp("pictures") / "photos"
    folder.mkdir()
    for seed in range(3):
        blocks = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(blocks).resize((160, 120)).save(folder / f"{seed}.png")
    return folder


@pytest.fixture(scope="session")
def stub_service(hosted: Any, make_stub: Any, pictures: Path) -> Callable[..., Hosted]:
    """A service in this process on `pictures`, without a network, that begins at once. options: of the service."""
    from delf.collection import Collection
    from delf.service.app import create_app
    from delf.service.library import Library
    from delf.service.options import ServiceOptions

    place = pictures.parent / "stub.delf"
    with Collection.create(place, make_stub()) as collection:
        collection.add(pictures)

    def start(**options: Any) -> Hosted:
        chosen = ServiceOptions(**options)
        return hosted(create_app(Library(place, make_stub(), ["delf-votes", "delf"]), chosen), chosen)

    return start


@pytest.fixture(scope="session")
def service(serve: Serve, copied: Copied, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A service on the collection of `photos` by every method, which changes nothing."""
    from delf.methods import METHODS

    return serve(copied(tmp_path_factory.mktemp("read")), "--methods", ",".join(METHODS))


@pytest.fixture
def writable(hosted_on: Any, copied: Copied, token: str, tmp_path: Path) -> Iterator[Hosted]:
    """A service on a copy of the collection, to which photos may be added, with the token in its client."""
    (tmp_path / "uploads").mkdir()
    one = hosted_on(copied(tmp_path), token=token, uploads=tmp_path / "uploads")
    one.http.headers["Authorization"] = f"Bearer {token}"
    yield one
    one.stop()


@pytest.fixture
def travelled(hosted: Any, stub: Any, draw: Any, tmp_path: Path) -> Any:
    """A service on photos of two towns, and one that does not say where it was taken."""
    from delf.collection import Collection
    from delf.service.app import create_app
    from delf.service.library import Library
    from delf.service.options import ServiceOptions

    rome, vienna = (41.89, 12.49), (48.21, 16.37)
    (tmp_path / "photos").mkdir()
    for seed, (name, place) in enumerate({"rome-1": rome, "rome-2": rome, "vienna": vienna, "nowhere": None}.items()):
        with Image.open(draw(f"drawn/{name}.png", seed)) as image:
            exif = image.getexif()
            if place is not None:
                exif.get_ifd(0x8825).update({1: "N", 2: (place[0], 0.0, 0.0), 3: "E", 4: (place[1], 0.0, 0.0)})
            image.save(tmp_path / "photos" / f"{name}.jpg", exif=exif, quality=95)
    with Collection.create(tmp_path / "c.delf", stub) as collection:
        collection.add(tmp_path / "photos")
    return hosted(create_app(Library(tmp_path / "c.delf", stub, ["delf"]), ServiceOptions(watch_seconds=0.02)))
