"""An archive on this computer, which tells the truth or does not."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from PIL import Image

JSON, JPEG = "application/json", "image/jpeg"
Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]


def jpeg(seed: int, size: tuple[int, int] = (80, 60)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.NEAREST).save(stream, "JPEG", quality=90)
    return stream.getvalue()


@dataclass
class Archive:
    """answers: by path, what is said, or what says it. requests: the paths in their order. most: requests at once."""

    url: str = ""
    answers: dict[str, Answer | Callable[[], Answer]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    agents: set[str] = field(default_factory=set)
    times: list[float] = field(default_factory=list)
    now: int = 0
    most: int = 0

    def put(self, path: str, content: Any, kind: str = JSON, **headers: str) -> str:
        """Serve an object as JSON, or bytes; the address."""
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.answers[path] = 200, {"Content-Type": kind, "Content-Length": str(len(data)), **headers}, data
        return self.url + path

    def picture(self, number: int, *, level: int = 2, version: int = 2, size: tuple[int, int] = (4000, 3000),
                at: str = "/full/1600,/0/default.jpg") -> dict[str, Any]:
        """A picture with a service, which serves one size of it; the body of an annotation."""
        self.put(f"/image/{number}{at}", jpeg(number), JPEG)
        context = f"http://iiif.io/api/image/{version}/context.json"
        service = {"@context": context, "@id": f"{self.url}/image/{number}",
                   "profile": f"http://iiif.io/api/image/2/level{level}.json"} if version == 2 else {
                       "id": f"{self.url}/image/{number}", "type": "ImageService3", "profile": f"level{level}"}
        return {"id": f"{self.url}/image/{number}/full/max/0/default.jpg", "type": "Image", "format": JPEG,
                "width": size[0], "height": size[1], "service": [service]}

    def manifest(self, path: str, bodies: list[Any], version: int = 3) -> str:
        """A manifest with one canvas for each picture."""
        place = self.url + path
        if version == 3:
            items = [{"id": f"{place}/canvas/{number}", "type": "Canvas", "label": {"en": [f"p. {number}"]}, "items": [
                {"type": "AnnotationPage", "items": [{"type": "Annotation", "motivation": "painting", "body": body}]}]}
                for number, body in enumerate(bodies)]
            return self.put(path, {"@context": "http://iiif.io/api/presentation/3/context.json", "id": place,
                                   "type": "Manifest", "label": {"none": ["A book"]}, "items": items})
        listed = [{"@id": f"{place}/canvas/{number}", "@type": "sc:Canvas", "label": f"p. {number}", "images": [
            {"@type": "oa:Annotation", "motivation": "sc:painting", "resource": {
                **body, "@id": body["id"], "@type": "dctypes:Image"}}]} for number, body in enumerate(bodies)]
        return self.put(path, {"@context": "http://iiif.io/api/presentation/2/context.json", "@id": place,
                               "@type": "sc:Manifest", "label": "A book", "sequences": [{"canvases": listed}]})


@contextmanager
def serving() -> Iterator[Archive]:
    """An archive at a free port."""
    served, lock = Archive(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            with lock:
                served.requests.append(self.path)
                served.agents.add(self.headers["User-Agent"])
                served.times.append(time.monotonic())
                served.now += 1
                served.most = max(served.most, served.now)
            found = served.answers.get(self.path, (404, {}, b""))
            code, headers, body = found() if callable(found) else found
            with lock:  # before the last byte: who has that may ask again
                served.now -= 1
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(part)
            except OSError:
                pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
