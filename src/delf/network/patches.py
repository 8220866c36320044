"""Networks that begin with patches side by side, such as ConvNeXt and vision transformers, in the geometry of ResNets.

A ResNet pads its layers so that cell i is centred on pixel `stride * i` and sides that no stride divides lose nothing.
A network of patches gets that by padding the picture: half a stride at its beginning, and at its end what makes whole
patches, which may be less than nothing. The patch of cell i is then centred on pixel `stride * i - 0.5`.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def in_whole_patches(images: Tensor, stride: int) -> Tensor:
    """(B, 3, H, W) normalised images -> (B, 3, stride * ceil(H / stride), stride * ceil(W / stride)), zeros beyond."""
    height, width = images.shape[2], images.shape[3]
    rows, columns = (height + stride - 1) // stride, (width + stride - 1) // stride
    first = stride // 2
    return F.pad(images, (first, columns * stride - first - width, first, rows * stride - first - height))
