"""The image step that Co-Attack, SGA and DRA share: sign steps up a loss of features, from a random start."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import GauntletError

from ..balls import lp_norm, project
from ..base import Attack, AttackResult, Run
from .paired import Paired


@dataclass
class PairAscent(Attack):
    """L-inf sign steps on a `Paired` victim. The start is random: at the clean image some losses are flat.

    Args:
        steps: gradient steps.
        step_size: length of a step, as a fraction of eps.
    """

    aims_text: ClassVar[bool]
    """Whether sentences are attacked against the image, or away from what they were."""

    steps: int = 10
    step_size: float = 0.25

    @abstractmethod
    def guide(self, sentences: Tensor) -> Tensor:
        """Unit features [M, D] of one image's sentences -> what the image step reads of them [D]."""

    @abstractmethod
    def loss(self, victim: Paired, images: Tensor, clean: Tensor, draws: Draws) -> Tensor:
        """What to maximise: images [B, 3, H, W] and the clean images' unit features [B, D] -> [B]."""

    def viewpoint(self, victim: Paired, here: Tensor, before: Tensor, origin: Tensor, draws: Draws) -> Tensor:
        """Where the gradient of a step is taken [B, 3, H, W]; it is applied at `here`. Not asked for the first step.

        Args:
            victim: as the attacker knows it.
            here: the current images.
            before: the images one step earlier.
            origin: the clean images.
            draws: random numbers that the loss does not share.
        """
        return here

    def text_aim(self, victim: Paired, origin: Tensor, result: AttackResult) -> Tensor:
        """What sentences leave once the images are attacked [B, D]: the features of the attacked image."""
        return victim.features(result.images)

    def perturb(self, run: Run) -> Tensor:
        """See Attack.

        Raises:
            GauntletError: the victim knows no sentences.
        """
        victim = run.victim
        if not isinstance(victim, Paired):
            raise GauntletError(
                f"a victim of type {type(victim).__name__}", expected="a Paired victim: features, and guides of text",
                where=type(self).__name__, fix="use a protocol of modality `both`",
            )  # fmt: skip
        with torch.no_grad():
            clean = victim.features(run.images)
        noise = Draws(run.keys).uniform(run.images, -self.eps, self.eps)
        images = run.before = project(run.images + noise, run.images, norm=self.norm, eps=self.eps)
        for step in range(self.steps):
            view, draws = images, Draws(run.keys, call=step + 1)
            if step > 0:  # below 0: streams of their own, so that looking around does not change the loss
                view = self.viewpoint(victim, images, run.before, run.images, Draws(run.keys, call=-step))
            gradient, values = slope(partial(self.loss, victim, clean=clean, draws=draws), view)
            if step == 0:
                run.telemetry |= {"first_loss": values.float(), "gradient_norm": lp_norm(gradient, "l2")}
            run.before, images = images, self._stepped(images, gradient, run.images)
        with torch.no_grad():
            run.telemetry["last_loss"] = self.loss(victim, images, clean, Draws(run.keys, call=1)).float()
        return images

    def _stepped(self, images: Tensor, gradient: Tensor, origin: Tensor) -> Tensor:
        """One sign step, put back into the ball around `origin`."""
        moved = images + self.step_size * self.eps * gradient.sign()
        return project(moved, origin, norm=self.norm, eps=self.eps)


def slope(loss: Callable[[Tensor], Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient [B, 3, H, W] and values [B] of a loss that maps images to one number each."""
    with torch.enable_grad():
        inputs = images.detach().requires_grad_()
        values = loss(inputs)
        (gradient,) = torch.autograd.grad(values.sum(), inputs)
    return gradient, values.detach()
