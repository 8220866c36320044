"""ResNets of torchvision: ImageNet weights to start from, and off-the-shelf descriptors."""

from __future__ import annotations

from collections.abc import Sequence

from delf.errors import ModelError
from delf.models import TRUNKS, ModelConfig, resnet_layout
from delf.weights.checkpoint import Checkpoint
from delf.weights.imported import ImportedModel, ImportOptions
from delf.weights.trunk import no_pca, torch_variables

FEW = 200  # local features of a model that is for global descriptors


def fits(checkpoint: Checkpoint) -> bool:
    """Whether the weights have torchvision's names."""
    return "conv1.weight" in checkpoint.shapes and any(name.startswith("layer1.0.") for name in checkpoint.shapes)


def read(checkpoint: Checkpoint, options: ImportOptions, name: str) -> ImportedModel:
    """A model of the trunk, whose global descriptor is the generalised mean of conv5, with an exponent of 3.

    Nothing of it was trained for retrieval: features are chosen by their length, and have all their channels.

    Raises:
        ModelError: weights are missing or misshapen, or it is another network than a ResNet-18, 34, 50 or 101.
    """
    trunk = trunk_of(checkpoint)
    config = ModelConfig(name, trunk=trunk, precision="single", conv5=True, extraction=of_globals(trunk),
                         about=f"Imported from {checkpoint.path.name!r}: a {trunk} as torchvision has it.")
    return ImportedModel(config, checkpoint.read_all(torch_variables(trunk, conv5=True)),
                         no_pca(TRUNKS[trunk].channels))


def trunk_of(checkpoint: Checkpoint, stages: Sequence[str] = ("layer1", "layer2", "layer3")) -> str:
    """The trunk whose units the weights are of. stages: how conv2, conv3 and conv4 are called there.

    Raises:
        ModelError: it is none that is known here.
    """
    units = []
    for stage in stages:
        rest = (name.removeprefix(f"{stage}.") for name in checkpoint.shapes if name.startswith(f"{stage}."))
        units.append(len({name.split(".")[0] for name in rest}))
    bottleneck = f"{stages[0]}.0.conv3.weight" in checkpoint.shapes
    for name in ("resnet18", "resnet34", "resnet50", "resnet101"):
        layout = resnet_layout(name)
        if (list(layout.units[:3]), layout.bottleneck) == (units, bottleneck):
            return name
    raise ModelError(f"the stages of the network in {str(checkpoint.path)!r} have {', '.join(map(str, units))} units, "
                     "as none does that is known here: a ResNet-18, 34, 50 or 101 is")


def of_globals(trunk: str, **changed: object) -> dict[str, object]:
    """Options of extraction for models that are for global descriptors: few local features, as they are."""
    return {"dimensions": TRUNKS[trunk].channels, "max_features": FEW, "length_weight": 0.0, "texture": 0.0,
            "border": 0.0, **changed}
