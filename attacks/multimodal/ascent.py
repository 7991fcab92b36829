"""The image step that Co-Attack and SGA share: sign steps up a loss of features, from a random start."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import GauntletError

from ..balls import lp_norm, project
from ..base import Attack, Run
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
        images = project(run.images + noise, run.images, norm=self.norm, eps=self.eps)
        for step in range(self.steps):
            gradient, values = self._gradient(victim, images, clean, Draws(run.keys, call=step + 1))
            if step == 0:
                run.telemetry |= {"first_loss": values, "gradient_norm": lp_norm(gradient, "l2")}
            images = project(
                images + self.step_size * self.eps * gradient.sign(), run.images, norm=self.norm, eps=self.eps
            )
        with torch.no_grad():
            run.telemetry["last_loss"] = self.loss(victim, images, clean, Draws(run.keys, call=1)).float()
        return images

    def _gradient(self, victim: Paired, images: Tensor, clean: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            inputs = images.detach().requires_grad_()
            values = self.loss(victim, inputs, clean, draws)
            (gradient,) = torch.autograd.grad(values.sum(), inputs)
        return gradient, values.detach().float()
