"""A vision transformer (Dosovitskiy et al., ICLR 2021) as DINOv2 and DeiT have it, with the names of their own files.

Its features are the normalised tokens of the patches behind the last block. Positions are learnt for a square of
patches; for pictures of other shapes they are interpolated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.models.layouts import VitLayout
from delf.network.patches import in_whole_patches
from delf.network.trunk import Trunk


class SelfAttention(nn.Module):
    """Attention of several heads among tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self._heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> the same."""
        batch, tokens, width = x.shape
        split = self.qkv(x).reshape(batch, tokens, 3, self._heads, width // self._heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(split[0], split[1], split[2])
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Perceptron(nn.Module):
    """Two linear layers at each token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> the same."""
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> the same."""
        return x * self.gamma


class Block(nn.Module):
    """Attention and a perceptron, each beside a shortcut."""

    def __init__(self, width: int, heads: int, *, scaled: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = SelfAttention(width, heads)
        self.ls1: nn.Module = LayerScale(width) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Perceptron(width)
        self.ls2: nn.Module = LayerScale(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> the same."""
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Patches -> tokens."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w)."""
        return self.proj(images)


class VitTrunk(Trunk):
    """The patch tokens of a vision transformer, as a map."""

    def __init__(self, layout: VitLayout) -> None:
        super().__init__()
        self._layout = layout
        self.patch_embed = PatchEmbed(layout.width, layout.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, layout.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + layout.grid**2, layout.width))
        if layout.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, layout.registers, layout.width))
        self.blocks = nn.Sequential(*(Block(layout.width, layout.heads, scaled=layout.scaled)
                                      for _ in range(layout.depth)))
        self.norm = nn.LayerNorm(layout.width, eps=1e-6)
        for tensor in (self.pos_embed, *(one.weight for one in self.modules() if isinstance(one, nn.Linear))):
            nn.init.trunc_normal_(tensor, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """As `Trunk` says."""
        layout = self._layout
        x = self.patch_embed(in_whole_patches(images, layout.patch))
        rows, columns = x.shape[2], x.shape[3]
        x = x + self._positions(rows, columns)
        x = x.flatten(2).transpose(1, 2)
        batch = x.shape[0]
        first = [(self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)]
        if layout.registers:
            first.append(self.register_tokens.expand(batch, -1, -1))
        x = self.norm(self.blocks(torch.cat([*first, x], dim=1)))[:, 1 + layout.registers :]
        return x.transpose(1, 2).reshape(batch, layout.width, rows, columns)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """(1, C, rows, columns)."""
        grid = self._layout.grid
        square = self.pos_embed[:, 1:].transpose(1, 2).reshape(1, self._layout.width, grid, grid)
        return F.interpolate(square, size=(rows, columns), mode="bicubic", align_corners=False)
