"""The network computes once: what it has said of some pixels is kept in files that the processes of a test run share,
and so is which of the packaged visual words are the nearest to some descriptors.

A key is all that an answer depends on: the content of the model file, and the pixels; that of the words, and the
descriptors. So a change of the network, or of what it is given, is seen as before; tests that look at the network
itself are without (`asking`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from delf.index.words import Codebook
from delf.models import PACKAGED
from delf.runtimes import NetworkOutput
from delf.runtimes.onnx import OnnxRuntime

FOLDER = "DELF_TESTS_REMEMBERED"  # the variable of the environment that names the folder
SPARED = 2 * 2**30  # bytes of the disk that are left free

_PREFIX = "delf-remembered-"  # of the names of these folders

_asked = False


def folder_of_this_run() -> Path:
    """A new folder for what the network says. Those that killed runs have left are removed: a run that goes on holds a
    lock on its own.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is used, or somebody else's
            _locked(left)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    _locked(folder)
    return folder


def _locked(folder: Path) -> int:
    """The descriptor of a folder that nobody else has locked; the lock ends with this process. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


@contextmanager
def asking() -> Iterator[None]:
    """Inside, nothing is remembered."""
    global _asked
    before, _asked = _asked, True
    try:
        yield
    finally:
        _asked = before


@contextmanager
def remembering() -> Iterator[None]:
    """Inside, ONNX Runtime computes what it has not computed in this run of the tests, words are looked for that have
    not been looked for, and the packaged files, which no test changes, are read once in a process.
    """
    folder, codebooks = Path(os.environ[FOLDER]), dict[Path, Codebook]()
    packaged = set[str]()  # fingerprints of packaged words
    opened = dict[tuple[Path, bool], dict[str, Any]]()
    open_file, run = OnnxRuntime.__init__, OnnxRuntime.run
    load, load_method, assign = Codebook.load, vars(Codebook)["load"], Codebook.assign

    def open_once(self: Any, files: Any, device: str = "cpu", *, eight_bit: bool = False) -> None:
        path = files.eight_bit if eight_bit else files.onnx
        known = None if _asked or device != "cpu" else opened.get((path, eight_bit))
        if known is None:
            open_file(self, files, device, eight_bit=eight_bit)
            known = {**vars(self), "file": hashlib.sha256(path.read_bytes()).digest()}
            if path.parent == PACKAGED and not _asked:
                opened[path, eight_bit] = known
        vars(self).update(known)

    def remembered(self: Any, images: np.ndarray) -> NetworkOutput:
        if _asked:
            return run(self, images)
        about = self.file + repr((images.shape, images.dtype.str)).encode() + images.tobytes()
        return NetworkOutput(**_kept(folder, about, lambda: vars(run(self, images))))

    def assigned(self: Codebook, descriptors: np.ndarray, count: int = 1, *, exact: bool | None = None) -> Any:
        if _asked or self.fingerprint not in packaged:
            return assign(self, descriptors, count, exact=exact)
        about = repr((self.fingerprint, count, exact, descriptors.shape, descriptors.dtype.str)).encode()
        return _kept(folder, about + descriptors.tobytes(),
                     lambda: {"words": assign(self, descriptors, count, exact=exact)})["words"]

    def load_once(path: Path) -> Codebook:
        if _asked or path.parent != PACKAGED:
            return load(path)
        if path not in codebooks:
            codebooks[path] = load(path)
            packaged.add(codebooks[path].fingerprint)
        return codebooks[path]

    OnnxRuntime.__init__, OnnxRuntime.run, Codebook.load, Codebook.assign = open_once, remembered, load_once, assigned
    try:
        yield
    finally:
        OnnxRuntime.__init__, OnnxRuntime.run, Codebook.load, Codebook.assign = open_file, run, load_method, assign


def _kept(folder: Path, about: bytes, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was computed, or is now. about: all that it depends on."""
    path = folder / (hashlib.sha256(about).hexdigest() + ".safetensors")
    if path.exists():
        return dict(load_file(path))
    output = compute()
    if shutil.disk_usage(folder).free < SPARED:
        return output
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
        file.write(save(output))  # numpy's own files are not read by several threads at once in Python 3.11
    Path(file.name).replace(path)
    return output
