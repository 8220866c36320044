"""Getting released weights from a server of this machine, cards, and the folder of a hub."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from delf.datasets import DownloadOptions
from delf.errors import DelfError, MissingDependencyError, ModelError, OptionError
from delf.features import Delf
from delf.models import find_model, on_hub
from delf.weights import hub
from delf.weights.card import model_card
from delf.weights.released import RELEASED, get_released

QUICK = DownloadOptions(timeout=10.0, retries=2, backoff=0.0, chunk=1 << 12)
DATA = bytes(range(256)) * 200


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The server of `tests/datasets`."""
    spec = importlib.util.spec_from_file_location("of_datasets", Path(__file__).parents[1] / "datasets" / "conftest.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "of_datasets", module)
    spec.loader.exec_module(module)
    yield from module.web.__wrapped__(monkeypatch)


@pytest.fixture
def released(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def change(name: str, **changes: Any) -> None:
        monkeypatch.setitem(RELEASED, name, replace(RELEASED[name], **changes))

    return change


def test_a_file_is_got_compared_and_gone_on_with(web: Any, released: Any, tmp_path: Path) -> None:
    path = "/download.pytorch.org/models/resnet18-f37072fd.pth"
    web.put(path, DATA)
    digest = hashlib.sha256(DATA).hexdigest()
    released("resnet18", sha256=digest[:8])
    web.cuts = [5000]
    asked = get_released("resnet18", tmp_path / "weights", mirror=f"{web.address}/", options=QUICK)
    assert asked == tmp_path / "weights" / "resnet18-f37072fd.pth" and asked.read_bytes() == DATA
    assert web.ranges_asked == [None, "bytes=5000-"], "what had come was not fetched again"
    assert get_released("resnet18", tmp_path / "weights", mirror=web.address, options=QUICK) == asked
    assert len(web.requests) == 2, "what is there is not fetched again"
    asked.write_bytes(b"something else")
    with pytest.raises(ModelError, match=f"is not what was published: its SHA-256 does not begin with {digest[:8]}"):
        get_released("resnet18", tmp_path / "weights", mirror=web.address, options=QUICK)


def test_a_file_that_is_another_one_is_deleted(web: Any, tmp_path: Path) -> None:
    web.put("/download.pytorch.org/models/resnet18-f37072fd.pth", DATA)
    with pytest.raises(DelfError, match=r"came twice with the SHA-256 sum .* and the published one is f37072fd"):
        get_released("resnet18", tmp_path, mirror=web.address, options=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_becomes_a_folder(web: Any, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        member = tarfile.TarInfo("delf_gld_20190411/model/variables/variables.index")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"index"))
    web.put("/storage.googleapis.com/delf/delf_gld_20190411.tar.gz", out.getvalue())
    for _ in range(2):
        folder = get_released("delf-gld", tmp_path, mirror=web.address, options=QUICK)
        assert folder == tmp_path / "delf_gld_20190411"
        assert (folder / "model" / "variables" / "variables.index").read_bytes() == b"index"
    assert [path.name for path in tmp_path.iterdir()] == ["delf_gld_20190411"] and len(web.requests) == 1


def test_what_cannot_be_got(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no weights 'vgg16' are known; known are resnet18, "):
        get_released("vgg16", tmp_path)
    with pytest.raises(ModelError, match=r"cannot be downloaded by a command; https://github\.com/naver"):
        get_released("dir-r101-ap-gem", tmp_path)
    with pytest.raises(OptionError, match="a mirror is an address"):
        get_released("resnet18", tmp_path, mirror="ftp://somewhere")
    for one in RELEASED.values():
        assert one.licence and one.page.startswith("https://") and (not one.url or one.file)


# --- cards and the hub


def test_a_card_says_what_a_model_is_and_was_made_from() -> None:
    files = find_model("delf-r18")
    config = replace(hub.config_of(files), source={"r.pth": "0" * 64}, licence="MIT")
    card = model_card(files, config, repository="some/where")
    assert files.onnx is not None
    for text in ("# delf-r18", "| trunk | resnet18 |", hashlib.sha256(files.onnx.read_bytes()).hexdigest(),
                 f"- `r.pth`, SHA-256 `{'0' * 64}`", 'Delf.from_pretrained("some/where")', "Licence: MIT."):
        assert text in card, text
    assert "Imported from" not in model_card(files, hub.config_of(files))


def test_a_repository_of_the_hub_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client is stood in for by one whose hub is a folder."""
    made: list[str] = []

    class Api:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            (tmp_path / name).mkdir(parents=True, exist_ok=exist_ok)
            made.append(name)

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> None:
            for path in Path(folder_path).iterdir():
                (tmp_path / repo_id / path.name).write_bytes(path.read_bytes())

    def snapshot(name: str, *, allow_patterns: list[str]) -> str:
        return str(tmp_path / name)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(HfApi=Api, snapshot_download=snapshot))
    assert hub.push_to_hub("delf-r18", "some/where") == "https://huggingface.co/some/where"
    assert made == ["some/where"]
    there = {path.name for path in (tmp_path / "some" / "where").iterdir()}
    assert there == {"README.md", "config.json", "delf-r18.onnx", "delf-r18-int8.onnx", "delf-r18.safetensors"}
    assert json.loads((tmp_path / "some/where/config.json").read_text())["trunk"] == "resnet18"
    monkeypatch.chdir(tmp_path / "some")  # where there is no path some/where
    extractor = Delf.from_pretrained("some/where", threads=1)
    assert extractor.identity == Delf.load("delf-r18", threads=1).identity
    monkeypatch.chdir(tmp_path)
    assert on_hub("some/where") == "some/where", "a path that is here is taken for itself"
    with pytest.raises(OptionError, match="is called OWNER/NAME, not 'where'"):
        hub.push_to_hub("delf-r18", "where")


def test_without_the_client_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for use in (lambda: hub.push_to_hub("delf-r18", "a/b"), lambda: Delf.from_pretrained("a/b")):
        with pytest.raises(MissingDependencyError, match=r"delf-retrieval\[hub\]"):
            use()
