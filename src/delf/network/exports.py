"""A model in the forms of other runtimes, beside ONNX: TorchScript for programs with libtorch, OpenVINO's IR.

`EXPORTS` has them by the suffix of the file. What each computes is what the ONNX file computes: `images` (B, 3, H, W)
float32 RGB in 0..255 of any size -> the feature map, attention and the global descriptor (`delf.models.OUTPUTS`). The
configuration and the PCA go with it as text, as in the ONNX file, under the same names.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from delf.errors import ModelError, missing_dependency
from delf.files import replacing, write_atomically
from delf.models import METADATA_KEY
from delf.network.export import export_onnx, exportable
from delf.network.model import DelfModel
from delf.network.saving import saved_script


def metadata_of(model: DelfModel) -> Mapping[str, str]:
    """What goes with the network: the configuration as JSON, and the PCA and the whitening in base64."""
    assert model.pca is not None, "exportable() refuses a model without"
    return {METADATA_KEY: model.config.to_json(), **model.pca.to_metadata(),
            **(model.whitening.to_metadata() if model.whitening else {})}


def export_torchscript(model: DelfModel, path: Path) -> None:
    """Write a TorchScript file; `torch.jit.load(path, _extra_files={"delf": ""})` reads it, and the configuration.

    Raises:
        ModelError: as `export_onnx`. DelfError: the file cannot be written.
    """
    network = exportable(model)
    if network.trunk.frozen:
        raise ModelError(f"the trunk of {model.config.name!r} is an ONNX graph, which TorchScript cannot hold; use the "
                         ".onnx file")
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and follows no branches, of which there are none
        example = torch.zeros(1, 3, 224, 192)
        scripted = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        with replacing(path) as temporary:
            temporary.write_bytes(saved_script(scripted, dict(metadata_of(model))))


def export_openvino(model: DelfModel, path: Path) -> None:
    """Write OpenVINO's IR: an `.xml` file, and beside it a `.bin` file with the weights.

    The metadata lie in the runtime information, `model.get_rt_info(["delf", KEY])`.

    Raises:
        ModelError: as `export_onnx`. DelfError: a file cannot be written.
        MissingDependencyError: openvino is not installed.
    """
    try:
        openvino = importlib.import_module("openvino")
    except ImportError as error:
        raise missing_dependency("openvino", "openvino", "a model as .xml") from error
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "model.onnx")
        export_onnx(model, made)
        network = openvino.convert_model(made)
        for key, value in metadata_of(model).items():
            network.set_rt_info(value, ["delf", key])
        openvino.save_model(network, str(made.with_suffix(".xml")), compress_to_fp16=model.config.precision == "half")
        write_atomically(path.with_suffix(".bin"), made.with_suffix(".bin").read_bytes())
        write_atomically(path, made.with_suffix(".xml").read_bytes())  # last, so that what it names is there


EXPORTS: Mapping[str, Callable[[DelfModel, Path], None]] = {
    ".onnx": export_onnx, ".pt": export_torchscript, ".xml": export_openvino}

