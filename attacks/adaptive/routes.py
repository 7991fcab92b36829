"""One victim, several gradients: what an attacker differentiates need not be what judges his images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol as Interface

import torch
from torch import Tensor

from ..base import Context, Victim
from ..losses import margin
from .rows import Rows

ERRORS = 3.0  # standard errors by which an image must trail to be dropped before all looks


class InformedContext(Context, Interface):
    """A batch under attack by somebody who knows what the defence is made of."""

    def offers(self, part: str) -> bool:
        """Whether the model to break has this part: see Defence."""


@dataclass
class Routes:
    """A Victim that answers by `judge`, and the ways by which a gradient reaches it.

    Args:
        judge: the defence as it is.
        ways: by name, victims with a gradient; `relaxed` has values of its own, the others those of the judge.
        sources: other models by name, from which images may transfer.
        redirects: what else bends a gradient: out of a gate (`evade`), against each branch (`branches`).
    """

    judge: Victim
    ways: Mapping[str, Victim]
    sources: Mapping[str, Victim] = field(default_factory=dict)
    redirects: tuple[str, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """See Victim."""
        return self.judge(images)

    def select(self, index: Tensor) -> "Routes":
        """See Victim."""
        ways, sources = (
            {name: victim.select(index) for name, victim in models.items()} for models in (self.ways, self.sources)
        )
        return Routes(self.judge.select(index), ways, sources, self.redirects)


@dataclass
class Seen(Rows):
    """What looks found at one image of each of A samples.

    Args:
        right: [A, looks] bool, judged right; also where nobody looked.
        margins: [A, looks] of the best wrong class; minus infinity where nobody looked.
        logits: [A, K], their mean.
    """

    right: Tensor
    margins: Tensor
    logits: Tensor

    @property
    def stays(self) -> Tensor:
        """Looks [A] that judged right: nothing is left to do at 0."""
        return self.right.sum(1)

    @property
    def height(self) -> Tensor:
        """Mean margin [A]."""
        return self.margins.mean(1)

    def beats(self, other: "Seen") -> Tensor:
        """Whether it fools the judge more often [A], or as often with a higher margin."""
        return (self.stays < other.stays) | ((self.stays == other.stays) & (self.height > other.height))

    def trails(self, other: "Seen", looks: int) -> Tensor:
        """Whether the first so many looks, at the same draws, show that it cannot beat the other, or hardly [A]."""
        right, least = self.right[:, :looks].sum(1), other.right[:, :looks].sum(1)
        ahead = (self.margins - other.margins)[:, :looks]
        surely: Tensor = ahead.mean(1) + ERRORS * ahead.std(1) / looks**0.5 < 0
        return (right > other.stays) | ((right >= least) & surely)

    def taken(self, better: Tensor, other: "Seen") -> "Seen":
        """The other where it is better [A]."""
        where = better[:, None]
        return Seen(
            torch.where(where, other.right, self.right),
            torch.where(where, other.margins, self.margins),
            torch.where(where, other.logits, self.logits),
        )


def judged(looks: Sequence[Victim], places: Tensor, images: Tensor, labels: Tensor, best: Seen | None = None) -> Seen:
    """Looks at images [A, 3, H, W] of the samples at `places` of the victims `looks`.

    An image that surely trails the best one after a quarter or half of the looks is dropped.

    Args:
        looks: the judge, once for each look; asked again it draws the same.
        places: [A].
        images: [A, 3, H, W].
        labels: [A].
        best: what the same looks found at the images to beat.
    """
    here = torch.arange(len(images), device=images.device)
    right = torch.ones(len(images), len(looks), dtype=torch.bool, device=images.device)
    margins = torch.full(right.shape, -torch.inf, device=images.device)
    seen = Seen(right, margins, images.new_zeros(len(images), 1) if best is None else torch.zeros_like(best.logits))
    for at, look in enumerate(looks):
        if best is not None and at > 1 and at in (len(looks) // 4, len(looks) // 2):
            here = here[~seen.kept(here).trails(best.kept(here), at)]
        if not len(here):
            break
        with torch.no_grad():
            logits = look.select(places[here])(images[here]).float()
        right[here, at], margins[here, at] = logits.argmax(1) == labels[here], margin(logits, labels[here])
        if at == 0 and best is None:
            seen.logits = torch.zeros_like(logits)
        seen.logits[here] += logits / len(looks)
    return seen


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
