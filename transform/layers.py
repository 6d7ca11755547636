"""Layers that several networks use, and how networks are made quicker for inference."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.signal import overlapping_blocks

_Net = TypeVar("_Net", bound=nn.Module)
_Out = TypeVar("_Out")
_BLOCK_FRAMES = 450  # whose feature maps stay in a processor's cache
_NORMS = nn.BatchNorm1d | nn.BatchNorm2d
_log = logging.getLogger(__name__)


class TemporalBlock(nn.Module):
    """x + dropout(1x1(ReLU(norm(dilated conv(x))))), shape (B, D, F)."""

    def __init__(self, width: int, dilation: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.spread = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(width)
        self.mix = nn.Conv1d(width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the block makes of x (B, D, F)."""
        out: Tensor = x + self.dropout(self.mix(functional.relu_(self.norm(self.spread(x)))))
        return out


def in_blocks(work: Callable[..., tuple[Tensor, ...]], *given: Tensor, context: int) -> tuple[Tensor, ...]:
    """Return a function of tensors (B, C, F, ...), on a processor in blocks that stay in its cache.

    Args:
        work: returns tensors with as many frames as it is given.
        given: tensors with the frames in the same place.
        context: how many frames to either side of its own an output depends on.
    """
    n_frames = given[0].shape[2]
    if given[0].is_cuda or torch.is_grad_enabled() or n_frames <= _BLOCK_FRAMES:
        return work(*given)
    made = []
    for block in overlapping_blocks(n_frames, _BLOCK_FRAMES, context):
        outputs = work(*(whole[:, :, block.begin : block.end] for whole in given))
        made.append([x[:, :, block.core] for x in outputs])
    return tuple(torch.cat(outputs, dim=2) for outputs in zip(*made, strict=True))


def joined(maps: Tensor, weight: Tensor) -> Tensor:
    """Return what a layer of kernel 1 and of weight (D, C * K, 1) makes of maps (B, C, F, K): (B, D, F).

    The same as of `maps.transpose(2, 3).flatten(1, 2)`, but the maps, whose channels lie last, are not moved:
    the weight is.
    """
    n_channels, n_bands = maps.shape[1::2]
    moved = weight.reshape(-1, n_channels, n_bands).transpose(1, 2).flatten(1)
    return moved @ maps.permute(0, 2, 3, 1).flatten(2).mT


def parted(low: Tensor, layer: nn.Conv1d, n_channels: int) -> Tensor:
    """Return the maps (B, C, F, K), channels last, that a layer of kernel 1 makes of (B, D, F): as `joined`."""
    assert layer.bias is not None
    n_bands = layer.out_channels // n_channels
    weight = layer.weight.reshape(n_channels, n_bands, -1).transpose(0, 1).flatten(0, 1)
    bias = layer.bias.reshape(n_channels, n_bands).T.flatten()
    flat = functional.linear(low.transpose(1, 2), weight, bias)  # (B, F, K * C)
    return flat.reshape(*flat.shape[:2], n_bands, n_channels).permute(0, 3, 1, 2)


def fused(net: _Net) -> _Net:
    """Return a copy for inference, as `fuse` makes it; the network itself where that has been done."""
    is_done = not any(isinstance(module, _NORMS) for module in net.modules())
    return net if is_done else fuse(copy.deepcopy(net))


def fuse(net: _Net) -> _Net:
    """Fold every batch normalisation into the convolution before it, and return the network, for inference."""
    for module in net.eval().modules():
        if isinstance(module, TemporalBlock):
            _fold(module.norm, module.spread)
            module.norm = nn.Identity()
        elif isinstance(module, nn.Sequential):
            for i in range(1, len(module)):
                before, norm = module[i - 1], module[i]
                if isinstance(norm, _NORMS):
                    _fold(norm, before)
                    module[i] = nn.Identity()
        elif isinstance(module, nn.ReLU):
            module.inplace = True  # its input is a convolution's own
    return net


def _fold(norm: nn.Module, before: nn.Module) -> None:
    assert isinstance(norm, _NORMS)
    assert isinstance(before, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    before.weight, bias = nn.utils.fusion.fuse_conv_bn_weights(
        before.weight,
        before.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        isinstance(before, nn.ConvTranspose2d),
    )
    before.bias = bias


class Placed(Generic[_Net]):
    """A network on a device; where that is short of memory, a copy on the processor takes its place.

    The network itself is never moved: other threads may be at work with it.
    """

    def __init__(self, net: _Net, *, device: str) -> None:
        self._now = net.to(device), torch.device(device)

    def run(self, work: Callable[[_Net, torch.device], _Out]) -> _Out:
        """Return what `work` makes with the network and the device that it is on."""
        net, device = self._now
        try:
            return work(net, device)
        except torch.OutOfMemoryError:
            name = type(net).__name__
            _log.warning("the device is short of memory: %s runs on the processor from here on", name)
        torch.cuda.empty_cache()  # not before the error, which refers to what there is no room for, is gone
        self._now = _on_processor(net), torch.device("cpu")
        return work(*self._now)


def _on_processor(net: _Net) -> _Net:
    """Return a copy of a network on the processor, made without memory of the device that it is on."""
    memo: dict[int, object] = {id(p): nn.Parameter(p.detach().cpu().clone()) for p in net.parameters()}
    memo |= {id(buffer): buffer.cpu().clone() for buffer in net.buffers()}
    return copy.deepcopy(net, memo)
