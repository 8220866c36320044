"""Memory while photos are added does not depend on how many there are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")

CODE = """if True:
    import json, resource, sys
    from pathlib import Path
    import numpy as np
    from PIL import Image
    from delf.collection import Collection
    from delf.types import Features

    class Random:
        longest_side, threads, global_dimensions = 32, 1, 4
        identity = {"model": {"name": "random", "fingerprint": "00"}, "options": {"dimensions": 128}}

        def extract(self, image, *, image_size=None):
            return next(self.extract_many([image]))

        def extract_many(self, images):
            rng = np.random.default_rng(0)
            for _ in images:
                descriptors = rng.normal(size=(1000, 128)).astype(np.float32)
                descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
                yield Features(rng.random((1000, 2), np.float32), np.ones(1000, np.float32), np.ones(1000, np.float32),
                               descriptors, (16, 16), np.ones(4, np.float32))

    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    for number in range(count):
        pixels = np.frombuffer(number.to_bytes(12, "little"), np.uint8).reshape(2, 2, 3)
        Image.fromarray(pixels).save(folder / f"{number:04}.png")
    with Collection.create(folder / "places.delf", Random()) as collection:
        report = collection.add([folder], images_per_segment=25)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps([report.added, peak]))
"""


def test_adding_more_photos_takes_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for count in (50, 500):
        folder = tmp_path / str(count)
        folder.mkdir()
        command = [sys.executable, "-c", CODE, folder, str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        added, peak = json.loads(done.stdout)
        assert added == count
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 30e6, "the features of 450 more photos are 230 MB, their codes 60 MB"
