"""The ONNX file of a model: one file, images of any size, half-precision weights computed in single."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from delf.errors import ModelError, missing_dependency
from delf.files import replacing
from delf.models import METADATA_KEY, OUTPUTS, ModelConfig
from delf.models.digest import seal
from delf.network.model import DelfModel


def export_onnx(model: DelfModel, path: Path) -> None:
    """Write `model` as an ONNX file that carries its configuration, PCA and whitening.

    The batch norms are folded. Weights are stored in half precision (unless the configuration says single) with a cast
    to single behind each, which the runtime folds away when it loads the file, so that the file is half the size and
    all sums are in single precision.
    The regions of R-MAC depend on the image's size, which a file cannot express: the global descriptor of such a model
    is empty, and the extractor pools it from the feature map.

    Raises:
        ModelError: the model has no PCA; or its R-MAC pools what is no output of the file.
    """
    network = exportable(model)
    assert model.pca is not None, "exportable() refuses a model without"
    try:
        import onnx
    except ImportError as error:
        raise missing_dependency("onnx", "torch", "the export of a model") from error
    with replacing(path) as temporary:
        with warnings.catch_warnings():
            # The tracing exporter is deprecated, but gives dynamic sizes in one file without guards on them.
            warnings.simplefilter("ignore")
            torch.onnx.export(network, (torch.zeros(1, 3, 224, 192),), str(temporary), dynamo=False,
                              input_names=["images"], output_names=list(OUTPUTS), opset_version=17,
                              dynamic_axes={"images": {0: "batch", 2: "height", 3: "width"},
                                            "feature_map": {0: "batch", 2: "rows", 3: "columns"},
                                            "attention": {0: "batch", 1: "rows", 2: "columns"},
                                            "global_descriptor": {0: "batch"}})
        graph = onnx.load(temporary)
        if model.config.precision == "half":
            _halve_weights(graph.graph)
        onnx.helper.set_model_props(graph, {METADATA_KEY: model.config.to_json(), **model.pca.to_metadata(),
                                            **(model.whitening.to_metadata() if model.whitening else {})})
        onnx.checker.check_model(graph)
        onnx.save(graph, temporary)
        seal(temporary)


def can_export(config: ModelConfig) -> bool:
    """Whether an ONNX file can express the model."""
    return config.pooling != "rmac" or not (config.conv5 or config.global_dimensions)


def export_trunk(model: DelfModel, path: Path) -> int:
    """Write the trunk of a model by torchvision's names, for others' code: a `.pth` or `.safetensors` file; how many
    arrays.

    Raises:
        ModelError: the trunk is none that torchvision has.
    """
    if not model.config.trunk.startswith("resnet"):
        raise ModelError(f"the trunk of {model.config.name!r} is a {model.config.trunk}, and torchvision has none such")
    state = {key: tensor.detach().clone().contiguous() for key, tensor in model.trunk.state_dict().items()}
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            save_file(state, temporary)
        else:
            torch.save(state, temporary)
        temporary.chmod(0o644)
    return len(state)


def write_config(path: Path, config: ModelConfig) -> None:
    """Replace the configuration in a model file of either kind, and leave the rest as it is."""
    if path.suffix == ".onnx":
        import onnx

        graph = onnx.load(path)
        stored = {entry.key: entry.value for entry in graph.metadata_props}
        onnx.helper.set_model_props(graph, {**stored, METADATA_KEY: config.to_json()})
        with replacing(path) as temporary:
            onnx.save(graph, temporary)
            seal(temporary)
    else:
        with replacing(path) as temporary:
            save_file(load_file(path), temporary, metadata={METADATA_KEY: config.to_json()})
            temporary.chmod(0o644)


class _Unpooled(nn.Module):
    """Stands in for a pooling that a file cannot express."""

    def forward(self, feature_map: Tensor) -> Tensor:
        """(B, C, h, w) features -> (B, 0)."""
        return feature_map[:, :0, 0, 0]


def exportable(model: DelfModel) -> DelfModel:
    """The model as it goes into a file for another runtime: its batch norms folded, in evaluation mode.

    Raises:
        ModelError: the model has no PCA; or its R-MAC pools what is no output of the file.
    """
    if model.pca is None:
        raise ModelError(f"the model {model.config.name!r} has no PCA, so that it cannot describe features yet")
    if not can_export(model.config):
        raise ModelError(f"the model {model.config.name!r} pools R-MAC from conv5 or has a linear layer behind it, "
                         "which an ONNX file cannot express; use the runtime 'torch', or GeM pooling")
    folded = model.folded()
    if model.config.pooling == "rmac":
        folded.pooling = _Unpooled()
    return folded


def _halve_weights(graph: object) -> None:
    """Store every convolution weight in float16, with a Cast back to float32 in front of its use."""
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:  # type: ignore[attr-defined]
        if tensor.data_type != TensorProto.FLOAT or len(tensor.dims) < 4:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name=f"{name}.half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT, name=f"{name}.single"))
    for cast in reversed(casts):
        graph.node.insert(0, cast)  # type: ignore[attr-defined]
