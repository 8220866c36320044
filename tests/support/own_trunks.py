"""Networks as a user of the package might have them: none is of a kind that delf knows."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Inverted(nn.Module):
    """An inverted bottleneck with squeeze-and-excitation, as EfficientNet has them (Tan and Le, ICML 2019)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = 2 * inputs
        self.expand = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.SiLU())
        self.depthwise = nn.Sequential(nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False),
                                       nn.BatchNorm2d(wide), nn.SiLU())
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 4, 1), nn.SiLU(), nn.Conv2d(4, wide, 1),
                                     nn.Sigmoid())
        self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.squeeze(y))
        return x + y if self.shortcut else y


class Efficient(nn.Module):
    """A small EfficientNet that gives the maps of two stages, the finer one first, and drops something out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.fine = nn.Sequential(Inverted(8, 12, 2), Inverted(12, 12, 1))
        self.coarse = nn.Sequential(Inverted(12, 40, 2), nn.Dropout(0.5))

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.fine(self.stem(images))
        return [fine, self.coarse(fine)]


class Patches(nn.Module):
    """Tokens of patches side by side behind one for the class, as a vision transformer gives them: (B, 1 + N, C)."""

    def __init__(self, patch: int = 14, width: int = 36) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.proj(images).flatten(2).transpose(1, 2)
        first = self.cls_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat([first, tokens], dim=1)
        query, key, value = self.qkv(self.norm(tokens)).chunk(3, dim=2)
        return tokens + nn.functional.scaled_dot_product_attention(query, key, value)


def strided(padding: str = "both", channels: int = 34, layers: int = 3) -> nn.Module:
    """Plain convolutions, each of which halves the map. padding: "both" sides, at the "end", or "none"."""
    torch.manual_seed(1)
    parts: list[nn.Module] = []
    for number in range(layers):
        if padding == "end":
            parts.append(nn.ZeroPad2d((0, 1, 0, 1)))
        last = number == layers - 1
        inputs, outputs = 3 if number == 0 else 16, channels if last else 16
        parts += [nn.Conv2d(inputs, outputs, 3, 2, int(padding == "both")), nn.ReLU()]
    return nn.Sequential(*parts)
