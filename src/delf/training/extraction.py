"""An extractor with a model that is still in the making."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from delf.features import Delf
from delf.network.export import export_onnx
from delf.network.model import DelfModel


def extractor_of(model: DelfModel, folder: Path, **options: Any) -> Delf:
    """An extractor with a model that is in no file yet.

    One is written to `folder` in passing: the ONNX file, which is about three times as fast on the CPU, where the model
    can have one. It computes in float32 on every machine, so that what is trained does not depend on the processor.
    """
    path = folder / "current.safetensors"
    model.save_pretrained(path)
    if model.pca is not None:
        options = {"dimensions": min(128, len(model.pca.components)), **options}
    options = {"details": None, **options}  # which are no network's
    if model.config.pooling == "rmac":
        return Delf.load(path, runtime="torch", threads=2, **options)
    export_onnx(DelfModel.from_pretrained(path), path.with_suffix(".onnx"))
    return Delf.load(path.with_suffix(".onnx"), runtime="onnx", threads=2, **options)
