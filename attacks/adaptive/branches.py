"""Branches: an attacker who attacks each part that a defence mixes, not the mixture alone."""

from collections.abc import Sequence
from typing import Protocol as Interface

import torch
from torch import Tensor

from ..balls import unit_share
from ..base import Victim
from ..losses import cross_entropy


class Branched(Victim, Interface):
    """A victim whose answer mixes several."""

    def branch_logits(self, images: Tensor) -> Sequence[tuple[float, Tensor]]:
        """Images [B, 3, H, W] -> (share in the mixture, logits [B, K]) of each part; a share may be negative."""


def branch_attack(
    victim: Branched, images: Tensor, labels: Tensor, gradient: Tensor, weight: float, *, draws: int = 1
) -> Tensor:
    """The attack's gradient [B, ...] plus that of sum_r share_r CE(branch_r), both scaled to unit L1 norm.

    A branch that the mixture subtracts becomes surer of the truth. Averaged over `draws` calls.
    """
    push = torch.zeros_like(images)
    for _ in range(draws):
        with torch.enable_grad():
            inputs = images.detach().requires_grad_()
            parts = victim.branch_logits(inputs)
            losses = torch.stack([share * cross_entropy(logits.float(), labels) for share, logits in parts])
            push += torch.autograd.grad(losses.sum(), inputs)[0]
    return unit_share(gradient) + weight * unit_share(push)
