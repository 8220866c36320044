"""What every trunk promises to the model and to training."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from delf.errors import ModelError


class Trunk(nn.Module):
    """Normalised images (B, 3, H, W) -> (B, C, ceil(H / s), ceil(W / s)) features, s the stride.

    Cell i is centred on pixel s * i, up to half a pixel.
    """

    has_conv5 = False
    frozen = False  # whether its weights cannot be trained

    def forward_conv5(self, feature_map: Tensor) -> Tensor:
        """What a ResNet has behind its feature map. Raises `ModelError` for others."""
        raise ModelError("only ResNets have a stage conv5")

    def load_published(self, state: Mapping[str, Tensor]) -> None:
        """Load weights by the names under which they are published; what this trunk lacks is left aside.

        Raises:
            ModelError: a tensor is missing or has another shape, i.e. the file is of another architecture.
        """
        load_published(self, state)


def load_published(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """As `Trunk.load_published`, for any module."""
    own = module.state_dict()
    wanted = {key: state[key] for key in own if key in state and state[key].shape == own[key].shape}
    missing = [key for key in own if key not in wanted and not key.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(f"these weights do not fit the trunk: {len(missing)} tensors are missing or of another "
                         f"shape, the first is {missing[0]!r}; check the name of the architecture")
    module.load_state_dict(wanted, strict=False)
