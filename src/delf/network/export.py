"""The ONNX file of a model: one file, images of any size, half-precision weights computed in single."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from delf.errors import ModelError
from delf.files import replacing
from delf.models import METADATA_KEY, OUTPUTS, ModelConfig
from delf.models.digest import seal
from delf.network.graph import GraphTrunk
from delf.network.model import DelfModel
from delf.network.own import OwnTrunk
from delf.network.saving import saved
from delf.network.tracing import halve_weights, joined, onnx_of, opset_of, traced
from delf.privacy import quiet_onnxruntime

AXES = {"feature_map": {0: "batch", 2: "rows", 3: "columns"}, "attention": {0: "batch", 1: "rows", 2: "columns"},
        "global_descriptor": {0: "batch"}}  # of any length, of the outputs


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
    onnx = onnx_of("the export of a model")
    graph = _graph(network)
    if model.config.precision == "half":
        halve_weights(graph.graph, exactly=isinstance(network.trunk, OwnTrunk | GraphTrunk))
    onnx.helper.set_model_props(graph, {METADATA_KEY: model.config.to_json(), **model.pca.to_metadata(),
                                        **(model.whitening.to_metadata() if model.whitening else {})})
    onnx.checker.check_model(graph)
    with replacing(path) as temporary:
        onnx.save(graph, temporary)
        seal(temporary)
        if isinstance(network.trunk, OwnTrunk):
            _require_same(network, temporary)


def _graph(network: DelfModel) -> Any:
    """The ONNX model of a network that is exportable."""
    example, axes = torch.zeros(1, 3, 224, 192), {"images": {0: "batch", 2: "height", 3: "width"}, **AXES}
    if isinstance(network.trunk, GraphTrunk):
        return _around(network, network.trunk)
    if not isinstance(network.trunk, OwnTrunk):
        return traced(network, (example,), axes, OUTPUTS)
    try:
        return traced(network, (example,), axes, OUTPUTS, as_is=True)
    except Exception as error:  # the exporter raises many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"the trunk {network.config.trunk!r} cannot be written as ONNX ({reason}); the module has to "
                         "be one that torch.onnx.export takes with dynamo=False") from error


class _Part(nn.Module):
    """A method of a model as a module; the rest of it goes into no graph."""

    def __init__(self, model: DelfModel, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, images: Tensor) -> Any:
        """Whatever the method gives."""
        return getattr(self.model, self.name)(images)


def _around(network: DelfModel, trunk: GraphTrunk) -> Any:
    """The ONNX model of a network whose trunk is a graph already."""
    onnx = onnx_of("the export of a model")
    graph = onnx.load_model_from_string(trunk.graph.numpy().tobytes())
    opset, sides, channels = opset_of(graph), {0: "batch", 2: "height", 3: "width"}, network.config.trunk_channels
    before = traced(_Part(network, "normalised"), (torch.zeros(1, 3, 64, 48),),
                    {"images": sides, "normalised": sides}, ["normalised"], opset=opset)
    behind = traced(_Part(network, "described"), (torch.ones(1, channels, 4, 3),),
                    {"map": AXES["feature_map"], **AXES}, OUTPUTS, opset=opset)
    inner = onnx.compose.add_prefix(graph, "trunk/")
    made = joined(before, inner, [("normalised", "trunk/images")], ["trunk/feature_map"])
    return joined(made, behind, [("trunk/feature_map", "map")], OUTPUTS)


@torch.no_grad()
def _require_same(network: DelfModel, path: Path) -> None:
    """Refuse a file that computes something else than a module of the user's, for a size it was not traced with."""
    import onnxruntime

    quiet_onnxruntime(onnxruntime)
    images = torch.rand((1, 3, 250, 170), generator=torch.Generator().manual_seed(0)) * 255
    expected = network(images)[0].numpy()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        found = session.run([OUTPUTS[0]], {"images": images.numpy()})[0]
    except Exception as error:  # ONNX Runtime's own classes are not public
        found = np.array(str(error).splitlines()[:1])
    if found.shape != expected.shape or not np.allclose(found, expected, atol=0.02 * float(np.abs(expected).max())):
        raise ModelError(f"the ONNX form of the trunk {network.config.trunk!r} is right only for the size that it was "
                         "traced with: somewhere the module takes the size of its input as a number of Python, such as "
                         "by int(x.shape[2]); let it compute with x.shape[2] itself")


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
        raise ModelError(f"the trunk of {model.config.name!r} is a {model.config.trunk}, which torchvision does not "
                         "have")
    state = {key: tensor.detach().clone().contiguous() for key, tensor in model.trunk.state_dict().items()}
    with replacing(path) as temporary:
        if path.suffix == ".safetensors":
            temporary.write_bytes(save(state))
        else:
            temporary.write_bytes(saved(state))
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
            temporary.write_bytes(save(load_file(path), metadata={METADATA_KEY: config.to_json()}))
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
