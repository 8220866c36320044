"""Weights that others have released: what they are, where they lie, and getting them.

Addresses are those that the publishers name in their code or pages. A checksum is there where they name one:
torchvision has the first digits of the SHA-256 in the name of a file. Nothing is guessed.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from delf.datasets import DownloadOptions
from delf.datasets.download import Progress, download, silent
from delf.datasets.unpacking import unpack
from delf.errors import ModelError, OptionError
from delf.files import flush_folder
from delf.images import display_path
from delf.weights.checkpoint import sha256

_TORCHVISION = "https://download.pytorch.org/models"
_DELF = "http://storage.googleapis.com/delf"
_CIRTORCH = "http://cmp.felk.cvut.cz/cnnimageretrieval/data/networks"
_HOW = "http://ptak.felk.cvut.cz/personal/toliageo/share/how/models"
_DIR = "https://github.com/naver/deep-image-retrieval"
_BSD = "BSD-3-Clause (torchvision); the terms of ImageNet hold for what was learnt from it"
_APACHE = "Apache-2.0 (tensorflow/models)"
_MIT = "MIT (the code; the terms of the weights are not stated)"


@dataclass(frozen=True)
class Released:
    """Weights that somebody has released.

    about: what they are. url: of the file; empty where it cannot be got by an address, and then `page` says how.
    sha256: its first digits, or all; empty where none is published. size: bytes, about. licence: as far as it is known.
    config: the file of `research/delf` in tensorflow/models that a model of TensorFlow is used with.
    """

    name: str
    about: str
    url: str
    licence: str
    page: str
    sha256: str = ""
    size: int | None = None
    config: str = ""

    @property
    def file(self) -> str:
        """The name of the file, or of the folder that an archive becomes."""
        name = PurePosixPath(urlsplit(self.url).path).name
        return name.removesuffix(".tar.gz")

    @property
    def is_archive(self) -> bool:
        """Whether it is to be unpacked."""
        return self.url.endswith(".tar.gz")

    def to_json(self) -> dict[str, Any]:
        """The object that `delf weights list --json` prints."""
        return asdict(self)


def _torchvision(trunk: str, digits: str, size: int) -> Released:
    return Released(trunk, f"ResNet-{trunk.removeprefix('resnet')} of torchvision, ImageNet: to start training from",
                    f"{_TORCHVISION}/{trunk}-{digits}.pth", _BSD, "https://pytorch.org/vision", digits, size)


def _delf(name: str, about: str, file: str, config: str) -> Released:
    return Released(name, about, f"{_DELF}/{file}.tar.gz", _APACHE,
                    "https://github.com/tensorflow/models/tree/master/research/delf", config=config)


def _cirtorch(name: str, about: str, path: str) -> Released:
    return Released(name, about, f"{_CIRTORCH}/{path}.pth", _MIT,
                    "https://github.com/filipradenovic/cnnimageretrieval-pytorch")


RELEASED: dict[str, Released] = {one.name: one for one in (
    _torchvision("resnet18", "f37072fd", 46_830_571), _torchvision("resnet34", "b627a593", 87_319_819),
    _torchvision("resnet50", "0676ba61", 102_530_333), _torchvision("resnet101", "63fe2227", 178_793_939),
    _delf("delf-v1", "DELF of the paper, Landmarks (clean and full): 40 dimensions", "delf_v1_20171026",
          "delf/python/examples/delf_config_example.pbtxt"),
    _delf("delf-gld", "DELF of Detect-to-Retrieve, Google Landmarks v1: 128 dimensions", "delf_gld_20190411",
          "delf/python/detect_to_retrieve/delf_gld_config.pbtxt"),
    _delf("delg-r50-gldv1", "DELG, ResNet-50, Google Landmarks v1", "r50delg_gld_20200814",
          "delf/python/delg/r50delg_gld_config.pbtxt"),
    _delf("delg-r101-gldv1", "DELG, ResNet-101, Google Landmarks v1", "r101delg_gld_20200814",
          "delf/python/delg/r101delg_gld_config.pbtxt"),
    _delf("delg-r50-gldv2clean", "DELG, ResNet-50, Google Landmarks v2 (clean)", "r50delg_gldv2clean_20200914",
          "delf/python/delg/r50delg_gldv2clean_config.pbtxt"),
    _delf("delg-r101-gldv2clean", "DELG, ResNet-101, Google Landmarks v2 (clean)", "r101delg_gldv2clean_20200914",
          "delf/python/delg/r101delg_gldv2clean_config.pbtxt"),
    _cirtorch("cirtorch-r101-gem", "global, ResNet-101 GeM, SfM-120k, whitened afterwards",
              "retrieval-SfM-120k/retrievalSfM120k-resnet101-gem-b80fb85"),
    _cirtorch("cirtorch-r50-gem-w", "global, ResNet-50 GeM, SfM-120k, whitening learnt with it",
              "retrieval-SfM-120k/rSfM120k-tl-resnet50-gem-w-97bf910"),
    _cirtorch("cirtorch-r101-gem-w", "global, ResNet-101 GeM, SfM-120k, whitening learnt with it",
              "retrieval-SfM-120k/rSfM120k-tl-resnet101-gem-w-a155e54"),
    _cirtorch("cirtorch-gl18-r50-gem-w", "global, ResNet-50 GeM, Google Landmarks 2018",
              "gl18/gl18-tl-resnet50-gem-w-83fdc30"),
    _cirtorch("cirtorch-gl18-r101-gem-w", "global, ResNet-101 GeM, Google Landmarks 2018",
              "gl18/gl18-tl-resnet101-gem-w-a4d43db"),
    Released("how-r18", "HOW, ResNet-18, SfM-120k: local, 128 dimensions", f"{_HOW}/how_r18.pth", _MIT,
             "https://github.com/gtolias/how"),
    Released("how-r50", "HOW, ResNet-50 without its last stage, SfM-120k: local, 128 dimensions",
             f"{_HOW}/how_r50-.pth", _MIT, "https://github.com/gtolias/how"),
    Released("dir-r50-ap-gem", "DIR, ResNet-50 AP-GeM, Landmarks (clean): global", "",
             "BSD-3-Clause (the code); the terms of the weights are not stated", _DIR),
    Released("dir-r101-ap-gem", "DIR, ResNet-101 AP-GeM, Landmarks (clean): global", "",
             "BSD-3-Clause (the code); the terms of the weights are not stated", _DIR),
    Released("nashory", "DELF in PyTorch, ResNet-50 and a PCA", "", "MIT (the code; the terms of the weights are not "
             "stated)", "https://github.com/nashory/DeLF-pytorch"),
)}


def find_released(name: str) -> Released:
    """Weights by their name. Raises `OptionError` where there are none."""
    if name not in RELEASED:
        raise OptionError(f"no weights {name!r} are known; known are {', '.join(RELEASED)}")
    return RELEASED[name]


def get_released(name: str, folder: Path, *, mirror: str | None = None, options: DownloadOptions | None = None,
                 progress: Progress = silent) -> Path:
    """Get weights into a folder, going on with what an earlier run left; where they are then.

    Args:
        mirror: the address of one that has each file below the name of its host, `MIRROR/download.pytorch.org/...`.

    Raises:
        OptionError: no such weights are known.
        ModelError: they cannot be got by an address; or the file that is there is another one.
        DatasetError: the download fails; the sentence says what to do.
    """
    released = find_released(name)
    if not released.url:
        raise ModelError(f"{name} cannot be downloaded by a command; {released.page} says where it lies. Then: delf "
                         f"weights import FILE -o {name}.safetensors")
    target = folder / released.file
    if target.is_dir() or target.is_file():
        if target.is_file() and not sha256(target).startswith(released.sha256):
            raise ModelError(f"{display_path(target)} is not what was published: its SHA-256 does not begin with "
                             f"{released.sha256}; delete it, and run the same command again")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    url = released.url
    if mirror is not None:
        if urlsplit(mirror).scheme not in ("http", "https"):
            raise OptionError(f"a mirror is an address that begins with http:// or https://, not {mirror!r}")
        url = f"{mirror.rstrip('/')}/{urlsplit(url).netloc}{urlsplit(url).path}"
    file = folder / PurePosixPath(urlsplit(url).path).name
    if not file.is_file():
        hint = f"; {released.page} says how it can be had. Put it where it belongs: {display_path(file)}"
        download(url, file, sha256=released.sha256 or None, options=options, progress=progress, hint=hint)
    if released.is_archive:
        _unpack(file, target, progress)
    return target


def _unpack(archive: Path, target: Path, progress: Progress) -> None:
    """Unpack an archive, which has one folder as a rule, into a folder that appears whole."""
    place = target.with_name(f".{target.name}.unpacking")
    shutil.rmtree(place, ignore_errors=True)
    try:
        unpack(archive, place, progress=progress)
        inner = list(place.iterdir())
        (inner[0] if len(inner) == 1 and inner[0].is_dir() else place).rename(target)
        flush_folder(target.parent)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    archive.unlink()
