"""Ascents by rounds on what stands: who is wrong in every draw leaves with that image, the others keep their best."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..balls import lp_norm, project
from ..base import Run, Victim
from ..losses import Loss, margin
from .routes import pooled_gradient
from .rows import Rows
from .step_control import StepControl, along

PlacedLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(places in the batch [A], logits [A, K], labels [A]) -> [A]."""


def placed(loss: Loss) -> PlacedLoss:
    """A loss that is the same for all samples."""
    return lambda places, logits, labels: loss(logits, labels)


def always(loss: PlacedLoss) -> Callable[[int], PlacedLoss]:
    """The same loss in every step."""
    return lambda step: loss


def directed(directions: Tensor) -> PlacedLoss:
    """w . z for the directions w [B, K] of the outputs z (Tashiro et al. 2020, arXiv 2003.06878, eq. 2)."""
    return lambda places, logits, labels: (directions[places] * logits).sum(1)


@dataclass
class Scheduled(Rows):
    """A StepControl of lengths that are given for each step.

    Args:
        clean, norm, eps: the ball.
        share: step -> its length as a share of eps.
    """

    clean: Tensor
    norm: str
    eps: float
    share: Callable[[int], float]
    taken: int = field(default=0, init=False)

    def __call__(self, images: Tensor, gradient: Tensor, values: Tensor) -> Tensor:
        """See StepControl."""
        length = self.eps * self.share(self.taken)
        self.taken += 1
        return project(images + length * along(gradient, self.norm), self.clean, norm=self.norm, eps=self.eps)

    def end(self, images: Tensor) -> Tensor:
        """See StepControl."""
        return images


@dataclass
class Party:
    """The samples of a batch that stand, and those of them that the round attacks.

    Victims are cut after every step, whether or not somebody leaves, so that what a randomised one draws for a sample
    does not depend on its neighbours.

    Args:
        run: the batch.
        loss: of the telemetry.
        draws: averaged per gradient; in so many an image must be wrong.
    """

    run: Run
    loss: Loss
    draws: int
    best: Tensor = field(init=False)
    height: Tensor = field(init=False)
    fallen: Tensor = field(init=False)
    clean_logits: Tensor = field(init=False)
    standing: Tensor = field(init=False)
    places: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """One gradient at the clean images; who is wrong there in every draw has fallen."""
        run = self.run
        gradient, values, self.clean_logits, wrong = pooled_gradient(
            run.victim, run.images, run.labels, self.loss, draws=self.draws
        )
        lost = ~torch.isfinite(gradient).flatten(1).all(1)
        run.telemetry |= {"first_loss": values, "gradient_norm": lp_norm(gradient, "l2"), "nan_gradient": lost.float()}
        self.best, self.height = run.images.clone(), torch.full_like(values, -torch.inf)
        self.fallen = torch.where(wrong, self.clean_logits.argmax(1), -1)
        self.standing = self.places = (self.fallen < 0).nonzero().squeeze(1)
        self._victim: Victim = run.victim.select(self.standing)
        self._chosen = self._victim

    @property
    def images(self) -> Tensor:
        """Clean images of the samples that the round attacks."""
        return self.run.images[self.places]

    @property
    def keys(self) -> tuple[int, ...]:
        """Their random keys."""
        return tuple(self.run.keys[i] for i in self.places.tolist())

    def open(self, chosen: Tensor | None = None) -> None:
        """Begins a round on those that stand, or on some of them.

        Args:
            chosen: indices into `standing`.
        """
        index = torch.arange(len(self.standing), device=self.standing.device) if chosen is None else chosen
        self.places, self._chosen = self.standing[index], self._victim.select(index)

    def walk(self, images: Tensor, control: StepControl, loss: Callable[[int], PlacedLoss], steps: int) -> Tensor:
        """Ascends from images [A, 3, H, W] of the samples under attack -> where those that still stand are.

        Args:
            images: the start.
            control: of the steps.
            loss: of each step.
            steps: how many.
        """
        for step in range(steps):
            if not len(self.places):
                break
            gradient, values, mean, wrong = pooled_gradient(
                self._chosen, images, self.run.labels[self.places], partial(loss(step), self.places), draws=self.draws
            )
            lost = ~torch.isfinite(gradient).flatten(1).all(1)
            self.run.telemetry["nan_gradient"][self.places[lost]] = 1.0
            self._fall(self.places[wrong], images[wrong], mean[wrong])
            stay = (~wrong).nonzero().squeeze(1)
            self.places, self._chosen, control = self.places[stay], self._chosen.select(stay), control.kept(stay)
            if len(stay):
                images = control(images[stay], gradient[stay].nan_to_num(0.0, 0.0, 0.0), values[stay])
        return control.end(images[: len(self.places)])

    def close(self, images: Tensor) -> None:
        """Ends a round: looks once more at all that stood, with the images [A, 3, H, W] of those under attack."""
        offered = self.best.clone()
        offered[self.places] = images
        labels, shown = self.run.labels[self.standing], offered[self.standing]
        wrong, total = torch.ones_like(labels, dtype=torch.bool), torch.zeros_like(self.clean_logits[self.standing])
        height = shown.new_zeros(len(shown))
        for _ in range(self.draws if len(shown) else 0):
            with torch.no_grad():
                logits = self._victim(shown).float()
            wrong &= logits.argmax(1) != labels
            height += margin(logits, labels) / self.draws
            total += logits
        held = self.fallen[self.standing] < 0
        self._fall(self.standing[held & wrong], shown[held & wrong], total[held & wrong])
        better = held & ~wrong & (height > self.height[self.standing])
        self.best[self.standing[better]], self.height[self.standing[better]] = shown[better], height[better]
        stay = (self.fallen[self.standing] < 0).nonzero().squeeze(1)
        self.standing, self._victim = self.standing[stay], self._victim.select(stay)

    def end(self) -> Tensor:
        """The images of the batch [B, 3, H, W]: wrong in every draw, or those of highest margin at a round's end."""
        with torch.no_grad():
            self.run.telemetry["last_loss"] = self.loss(self.run.victim(self.best).float(), self.run.labels)
        return self.best

    def _fall(self, places: Tensor, images: Tensor, logits: Tensor) -> None:
        """Keeps images that were wrong, and the class they were taken for."""
        self.best[places] = images
        hidden = logits.scatter(1, self.run.labels[places][:, None], -torch.inf)
        self.fallen[places] = hidden.argmax(1)
