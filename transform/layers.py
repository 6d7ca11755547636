"""Parts that the networks share, and how they are made quicker for use."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.nn import functional

_Net = TypeVar("_Net", bound=nn.Module)


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
        out: Tensor = x + self.dropout(self.mix(functional.relu(self.norm(self.spread(x)))))
        return out


def fused(net: _Net) -> _Net:
    """Return a copy for inference, every batch normalisation folded into the convolution before it."""
    net = copy.deepcopy(net).eval()
    for module in net.modules():
        if isinstance(module, TemporalBlock):
            assert isinstance(module.norm, nn.BatchNorm1d)
            module.spread = nn.utils.fusion.fuse_conv_bn_eval(module.spread, module.norm)
            module.norm = nn.Identity()
        elif isinstance(module, nn.Sequential):
            for i in range(1, len(module)):
                before, norm = module[i - 1], module[i]
                if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                    assert isinstance(before, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d)
                    transposed = isinstance(before, nn.ConvTranspose2d)
                    module[i - 1] = nn.utils.fusion.fuse_conv_bn_eval(before, norm, transpose=transposed)
                    module[i] = nn.Identity()
    return net
