"""Where a trunk of low rank begins: with weights by which it computes nearly what a whole one does.

Each convolution becomes two, so that on given pictures its responses are nearest to those of the whole trunk, which
makes up for what the layers before have lost (Zhang et al., "Accelerating very deep convolutional networks for
classification and detection", TPAMI 2016, section 3.3, without their step for the nonlinearity).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from delf.errors import ModelError
from delf.network.joined import JoinedTrunk
from delf.network.resnet import BasicBlock, LowRankConvolution, ResNetTrunk, fold_batch_norm
from delf.network.trunk import Trunk

DAMPING = 1e-4  # of the mean variance of responses; keeps those that hardly vary from being believed
ABOVE = 2.0  # standard deviations from zero to the mean of the joined channels, so that few are cut off there


@torch.no_grad()
def begin_from(trunk: Trunk, whole: Trunk, pictures: Sequence[Tensor]) -> None:
    """Give a joined trunk of low rank the weights with which it comes nearest to a whole one.

    What it says in between the cells of the whole one's conv4 is interpolated.

    Args:
        pictures: (B, 3, H, W) normalised images, of one size each.

    Raises:
        ModelError: the trunks are of other kinds.
    """
    if not isinstance(trunk, JoinedTrunk) or not isinstance(trunk.conv1, LowRankConvolution) \
            or not isinstance(whole, ResNetTrunk) or whole.conv1.out_channels != trunk.conv1.out_channels:
        raise ModelError("a joined trunk of low rank begins with the weights of a ResNet-18")
    whole = fold_batch_norm(whole)
    trunk.eval()
    for norm in trunk.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_var.fill_(1 - norm.eps)  # type: ignore[union-attr]
    _fit(trunk.conv1, trunk.bn1, whole.conv1, pictures, [whole.conv1(x) for x in pictures])
    wanted = [whole.maxpool(whole.relu(whole.conv1(x))) for x in pictures]
    given = [trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(x)))) for x in pictures]
    for stage in ("layer1", "layer2", "layer3"):
        units = zip(trunk.get_submodule(stage).children(), whole.get_submodule(stage).children(), strict=True)
        for unit, other in cast(Sequence[tuple[BasicBlock, BasicBlock]], list(units)):
            given, wanted = _begin_unit(unit, other, given, wanted)
    _begin_join(trunk, given, wanted)


def _begin_unit(unit: BasicBlock, whole: BasicBlock, given: list[Tensor], wanted: list[Tensor]
                ) -> tuple[list[Tensor], list[Tensor]]:
    """Of inputs, what the unit and the whole one make of theirs."""
    _fit(unit.conv1, unit.bn1, whole.conv1, given, [whole.conv1(x) for x in wanted])
    inner = [F.relu(unit.bn1(unit.conv1(x))) for x in given]
    shortcuts, others = given, wanted
    if isinstance(unit.downsample, nn.Sequential) and isinstance(whole.downsample, nn.Sequential):
        own, other = (cast(nn.Conv2d, module[0]) for module in (unit.downsample, whole.downsample))
        own.weight.copy_(other.weight)
        cast(nn.BatchNorm2d, unit.downsample[1]).bias.copy_(cast(Tensor, other.bias))
        shortcuts, others = [unit.downsample(x) for x in given], [whole.downsample(x) for x in wanted]
    sums = [whole.conv2(F.relu(whole.conv1(x))) + shortcut for x, shortcut in zip(wanted, others, strict=True)]
    _fit(unit.conv2, unit.bn2, whole.conv2, inner, [x - own for x, own in zip(sums, shortcuts, strict=True)])
    return [unit(x) for x in given], [F.relu(x) for x in sums]


def _fit(convolution: nn.Conv2d, norm: nn.BatchNorm2d, whole: nn.Conv2d, given: Sequence[Tensor],
         wanted: Sequence[Tensor]) -> None:
    """Weights with which the responses to what is given are nearest to those that are wanted."""
    assert isinstance(convolution, LowRankConvolution)
    own = torch.cat([_rows(F.conv2d(x, whole.weight, None, whole.stride, whole.padding)) for x in given])
    target = torch.cat([_rows(x) for x in wanted])
    own_mean, target_mean = own.mean(dim=0), target.mean(dim=0)
    own, target = own - own_mean, target - target_mean
    covariance = own.T @ own / len(own)
    damped = covariance + DAMPING * covariance.diagonal().mean() * torch.eye(len(covariance), dtype=covariance.dtype)
    best = torch.linalg.solve(damped, own.T @ target / len(own)).T  # of full rank
    explained = best @ covariance @ best.T
    axes = torch.linalg.eigh(explained).eigenvectors[:, -convolution.reduce.out_channels :]
    # What lies between the two has a variance of 1 in each channel.
    spread = (axes.T @ explained @ axes).diagonal().sqrt().clamp(min=1e-9)
    down, up = (axes / spread).T @ best, axes * spread
    convolution.reduce.weight.copy_(torch.einsum("rc,cikl->rikl", down, whole.weight.double()))
    convolution.weight.copy_(up[:, :, None, None])
    norm.bias.copy_(target_mean - up @ (down @ own_mean))


def _begin_join(trunk: JoinedTrunk, given: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    """Let the joined map be conv4 in its strongest axes, interpolated; conv3 says little in it before it is learnt."""
    own, target = (torch.cat([_rows(x) for x in maps]) for maps in (given, wanted))
    mean = target.mean(dim=0)
    centred = target - mean
    axes = torch.linalg.eigh(centred.T @ centred / len(target)).eigenvectors[:, -trunk.conv_join.out_channels :]
    shift = ABOVE * ((own - mean) @ axes).std(dim=0)
    trunk.conv_coarse.weight.copy_(axes.T.repeat_interleave(4, dim=0)[:, :, None, None])
    nn.init.normal_(trunk.conv_fine.weight, std=0.01)
    trunk.bn_fine.bias.copy_(shift - axes.T @ mean)
    # A cell of conv4 was repeated to the right and downwards of where it lies: the mean with the next one on either
    # side is linear interpolation.
    trunk.conv_join.weight.zero_()
    trunk.conv_join.weight[:, :, 1:, 1:] = 0.25
    trunk.conv_out.weight.copy_(axes[:, :, None, None])
    trunk.bn_out.bias.copy_(mean - axes @ shift)
    if isinstance(trunk.refine, BasicBlock):
        nn.init.zeros_(trunk.refine.conv2.weight)  # adds nothing before it is learnt


def _rows(feature_map: Tensor) -> Tensor:
    """(B, C, h, w) -> (B h w, C) in double precision."""
    return feature_map.permute(0, 2, 3, 1).flatten(0, 2).double()
