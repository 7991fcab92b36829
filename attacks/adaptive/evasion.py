"""Gate evasion: an attacker who also walks out of the region where the defence acts."""

from typing import Protocol as Interface

import torch
from torch import Tensor

from ..balls import unit_share
from ..base import Victim

MARGIN = 0.05  # how far outside the gate, in the unit of the gate margin


class Gated(Victim, Interface):
    """A victim whose defence acts on some images only."""

    def gate_margin(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] -> how far inside the gate's region [B]; positive where the defence acts."""


def evade(victim: Gated, images: Tensor, gradient: Tensor, weight: float) -> Tensor:
    """The attack's gradient [B, ...] minus that of relu(gate margin + MARGIN), both scaled to unit L1 norm.

    The scaling makes `weight` a share, whatever the units of loss and margin.
    """
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        inside = torch.relu(victim.gate_margin(inputs) + MARGIN)
        (push,) = torch.autograd.grad(inside.sum(), inputs)
    return unit_share(gradient) - weight * unit_share(push)
