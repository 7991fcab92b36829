"""One victim, several gradients: what an attacker differentiates need not be what judges his images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol as Interface

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone

from ..base import Context, Logits, Victim
from ..losses import margin


class InformedContext(Context, Interface):
    """A batch under attack by somebody who knows what the defence is made of."""

    @property
    def towers(self) -> tuple[Backbone, ...]:
        """The undefended model, and the tuned one where there is one."""

    def offers(self, part: str) -> bool:
        """Whether the model to break has this part: see Defence."""


@dataclass
class Routes:
    """A Victim that answers by `judge`, and the ways by which a gradient reaches it.

    Args:
        judge: the defence as it is.
        ways: by name, victims with a gradient; `relaxed` has values of its own, the others those of the judge.
        towers: models alone, without what the defence does to them, from which images may transfer.
        redirects: what else bends a gradient: out of a gate (`evade`), against each branch (`branches`).
    """

    judge: Victim
    ways: Mapping[str, Victim]
    towers: tuple[Logits, ...] = ()
    redirects: tuple[str, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """See Victim."""
        return self.judge(images)

    def select(self, index: Tensor) -> "Routes":
        """See Victim."""
        ways = {name: victim.select(index) for name, victim in self.ways.items()}
        return Routes(self.judge.select(index), ways, self.towers, self.redirects)


def judged(
    judge: Victim, places: Tensor, images: Tensor, labels: Tensor, *, looks: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Looks at images [A, 3, H, W] of the samples at `places` of the judge: the same draws each time, to compare by.

    Returns:
        draws that were right [A], mean margin of the best wrong class [A], mean logits [A, K].
    """
    same = judge.select(places)
    with torch.no_grad():
        logits = torch.stack([same(images).float() for _ in range(looks)])
    right = (logits.argmax(2) == labels).sum(0)
    return right, torch.stack([margin(found, labels) for found in logits]).mean(0), logits.mean(0)


def pooled_gradient(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    draws: int,
    pooled: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradient of the loss in so many draws: of the mean loss, or of the loss of the mean logits.

    Args:
        victim: is drawn afresh in every call.
        images: [B, 3, H, W].
        labels: [B].
        loss: logits [B, K], labels [B] -> [B].
        draws: how many.
        pooled: mean logits [B, K] at the last step: the loss is linear around them, so that each draw has its graph
            alone and none is held. None: every draw has a loss of its own.

    Returns:
        gradient [B, 3, H, W], zero where no gradient reaches the images; loss [B] of the mean logits, or mean loss;
        mean logits [B, K]; misclassified in every draw [B].
    """
    gradient, total, values = torch.zeros_like(images), None, images.new_zeros(len(images))
    wrong = torch.ones(len(images), dtype=torch.bool, device=images.device)
    slope = None if pooled is None else _slope(loss, pooled, labels)
    for _ in range(draws):
        with torch.enable_grad():
            inputs = images.detach().requires_grad_()
            logits = victim(inputs).float()
            own = loss(logits, labels) if slope is None else (slope * logits).sum(1)
            (part,) = torch.autograd.grad(own.sum(), inputs, allow_unused=True) if own.requires_grad else (None,)
        found = logits.detach()
        gradient += torch.zeros_like(images) if part is None else part.detach()
        values += own.detach()
        total = found if total is None else total + found
        wrong &= found.argmax(1) != labels
    mean = total / draws if total is not None else images.new_zeros(len(images), 0)
    return gradient / draws, values / draws if slope is None else loss(mean, labels), mean, wrong


def _slope(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
    """How the loss moves with each logit [B, K]."""
    with torch.enable_grad():
        inputs = logits.detach().requires_grad_()
        (slope,) = torch.autograd.grad(loss(inputs, labels).sum(), inputs)
    return slope
