"""Step control of an ascent: how far each sample goes next, by a schedule or by how its own loss rises.

Every rule looks at one sample at a time, so that neighbours in the batch do not matter.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol as Interface
from typing import Self

import torch
from torch import Tensor

from ..balls import lp_norm, per_sample, project
from .rows import Rows

RISING = 0.75  # rho of APGD: a smaller share of rising steps halves the step


def along(direction: Tensor, norm: str) -> Tensor:
    """The step of length 1 in a direction [B, 3, H, W]: its sign (L-inf), or itself over its length (L2)."""
    if norm == "linf":
        return direction.sign()
    return direction / per_sample(lp_norm(direction, norm).clamp_min(1e-12), direction)


class StepControl(Interface):
    """Where an ascent goes from here."""

    def __call__(self, images: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """Images [B, 3, H, W], their gradient and loss [B] -> the next images, inside ball and box."""

    def kept(self, index: Tensor) -> Self:
        """The same control for the samples at `index`."""

    def end(self, images: Tensor) -> Tensor:
        """Of the last images [B, 3, H, W] and the earlier ones, where the ascent ends."""


@dataclass
class _Control(Rows):
    clean: Tensor
    norm: str
    eps: float
    steps: int
    taken: int = field(default=0, init=False)

    def end(self, images: Tensor) -> Tensor:
        """See StepControl: the last steps are the smallest."""
        return images

    def _moved(self, images: Tensor) -> Tensor:
        return project(images, self.clean, norm=self.norm, eps=self.eps)


@dataclass
class Cosine(_Control):
    """Steps from eps down to nearly nothing along half a cosine, by a sum of gradients of mean size 1.

    Args:
        clean: centre of the ball [B, 3, H, W].
        norm, eps: the ball.
        steps: of the whole ascent.
        momentum: share of the earlier gradients that each step keeps (MI-FGSM, Dong et al. 2018, arXiv 1710.06081).
    """

    momentum: float = 0.9
    velocity: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.velocity = torch.zeros_like(self.clean)

    def __call__(self, images: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """See StepControl."""
        size = gradient.abs().flatten(1).mean(1).clamp_min(torch.finfo(gradient.dtype).tiny)
        self.velocity = self.momentum * self.velocity + gradient / per_sample(size, gradient)
        length = self.eps * (1 + math.cos(math.pi * self.taken / self.steps)) / 2
        self.taken += 1
        return self._moved(images + length * along(self.velocity, self.norm))


@dataclass
class AutoStep(_Control):
    """APGD's: steps of 2 eps that are halved where the loss does not rise, from the best image so far.

    Croce and Hein 2020, arXiv 2003.01690, algorithm 1 and section 3.2.

    Args:
        clean, norm, eps, steps: see Cosine.
    """

    def __post_init__(self) -> None:
        zero = self.clean.new_zeros(len(self.clean))
        self.length, self.previous, self.best = zero + 2 * self.eps, self.clean, self.clean
        self.best_gradient = torch.zeros_like(self.clean)
        self.highest, self.last, self.before = zero - torch.inf, zero - torch.inf, zero - torch.inf
        self.rising, self.halved = zero, zero.bool()
        self.checks, self.checked = _checkpoints(self.steps), 0

    length: Tensor = field(init=False)
    previous: Tensor = field(init=False)
    best: Tensor = field(init=False)
    best_gradient: Tensor = field(init=False)
    highest: Tensor = field(init=False)
    last: Tensor = field(init=False)
    before: Tensor = field(init=False)
    rising: Tensor = field(init=False)
    halved: Tensor = field(init=False)
    checks: list[int] = field(init=False)
    checked: int = field(init=False)

    def __call__(self, images: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """See StepControl."""
        higher = values > self.highest
        self.best = torch.where(per_sample(higher, images), images, self.best)
        self.best_gradient = torch.where(per_sample(higher, images), gradient, self.best_gradient)
        self.highest = torch.maximum(self.highest, values)
        self.rising = self.rising + (values > self.last)
        self.last = values
        if self.taken in self.checks:
            images, gradient = self._check(images, gradient)
        straight = self._moved(images + per_sample(self.length, images) * along(gradient, self.norm))
        share = 0.75 if self.taken else 1.0
        moved = self._moved(images + share * (straight - images) + (1 - share) * (images - self.previous))
        self.previous = images
        self.taken += 1
        return moved

    def end(self, images: Tensor) -> Tensor:
        """See StepControl: the image of highest loss."""
        return self.best

    def _check(self, images: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """At a checkpoint: who rose too seldom, or nowhere higher since the last, halves and returns to the best."""
        seldom = self.rising < RISING * (self.taken - self.checked)
        stuck = ~self.halved & (self.highest <= self.before)
        self.halved = seldom | stuck
        self.length = torch.where(self.halved, self.length / 2, self.length)
        back = per_sample(self.halved, images)
        self.previous = torch.where(back, self.best, self.previous)
        self.before, self.checked, self.rising = self.highest, self.taken, torch.zeros_like(self.rising)
        return torch.where(back, self.best, images), torch.where(back, self.best_gradient, gradient)


def _checkpoints(steps: int) -> list[int]:
    """The steps at which APGD looks back: ever closer, at least 0.06 of all steps apart."""
    shares, apart = [0.0, 0.22], 0.22
    while shares[-1] < 1:
        apart = max(apart - 0.03, 0.06)
        shares.append(shares[-1] + apart)
    return sorted({math.ceil(round(share * steps, 6)) for share in shares[1:]})
