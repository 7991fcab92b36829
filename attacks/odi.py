"""Output-diversified initialisation (Tashiro et al. 2020, arXiv 2003.06878): starts that differ in what the model says.

From a random point of the ball, N steps of size eps along the sign of the gradient of w . f(x), with one direction
w ~ U(-1, 1)^C of the outputs for each sample and restart (eq. 2 and 4 of the paper); in L2 along the gradient itself.
PGD and APGD go on from there.
"""

from fractions import Fraction
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws, key_of

from .adaptive.eot import input_gradient
from .adaptive.party import Party, Scheduled, always, directed, placed
from .adaptive.step_control import AutoStep, along
from .balls import project, random_point
from .base import STRICT, AttackInfo, Number, Run
from .gradients import GradientAttack
from .losses import LOSSES
from .pgd import PGD


def directions(keys: tuple[int, ...], like: Tensor, call: int) -> Tensor:
    """w of each sample, in the shape of the logits [B, K], on streams that nothing else draws from."""
    return Draws(tuple(key_of(key, "odi") for key in keys), call).uniform(like, -1.0, 1.0)


@dataclass(config=STRICT)
class ODIPGD(PGD):
    """PGD from diversified starts.

    Args:
        odi_steps: N, of each restart.
        odi_size: of their steps, as a fraction of eps.
    """

    info = AttackInfo(
        "odi-pgd", "PGD from starts that were driven along random directions of the outputs",
        "Tashiro et al. 2020, arXiv:2003.06878",
    )  # fmt: skip

    random_start: Literal[True] = True
    odi_steps: Annotated[int, Field(ge=1)] = 2
    odi_size: Annotated[Number, Field(gt=0)] = Fraction(1)

    @property
    def total_steps(self) -> int:
        """See GradientAttack."""
        return self.restarts * (self.odi_steps + self.steps)

    def start(self, run: Run, restart: int) -> Tensor:
        """See PGD."""
        images = super().start(run, restart)
        with torch.no_grad():
            wanted = directions(run.keys, run.victim(images).float(), restart)

        def along_outputs(logits: Tensor, labels: Tensor) -> Tensor:
            return (wanted * logits).sum(1)

        for _ in range(self.odi_steps):
            gradient, _, _ = input_gradient(run.victim, images, run.labels, along_outputs, draws=self.eot)
            step = float(self.odi_size) * self.eps * along(gradient.nan_to_num(0.0, 0.0, 0.0), self.norm)
            images = project(images + step, run.images, norm=self.norm, eps=self.eps)
        return images


@dataclass(config=STRICT)
class ODIAPGD(GradientAttack):
    """Steps of Auto-PGD from diversified starts; a sample leaves at its first success.

    Args:
        steps: of each restart, beside those of the start.
        restarts: starts.
        step_size: of the first step, as a fraction of eps; later ones are adapted.
        loss: that the steps ascend.
        odi_steps, odi_size: see ODIPGD.
    """

    info = AttackInfo(
        "odi-apgd", "Auto-PGD's steps from starts that were driven along random directions of the outputs",
        "Tashiro et al. 2020, arXiv:2003.06878, with the steps of Croce and Hein 2020, arXiv:2003.01690",
    )  # fmt: skip

    steps: Annotated[int, Field(ge=1)] = 100
    restarts: Annotated[int, Field(ge=1)] = 1
    step_size: Annotated[Number, Field(ge=2, le=2)] = Fraction(2)
    loss: Literal["ce", "pm"] = "ce"
    odi_steps: Annotated[int, Field(ge=1)] = 2
    odi_size: Annotated[Number, Field(gt=0)] = Fraction(1)
    random_start: Literal[True] = True
    selection: Literal["any-iterate"] = "any-iterate"
    reduction: Literal["sum"] = "sum"

    @property
    def total_steps(self) -> int:
        """See GradientAttack."""
        return self.restarts * (self.odi_steps + self.steps)

    def perturb(self, run: Run) -> Tensor:
        """See Attack. What stands is the image of highest loss of the restart of highest margin."""
        party = Party(run, LOSSES[self.loss], self.eot)
        for restart in range(self.restarts):
            party.open()
            images = random_point(party.images, Draws(party.keys, restart), norm=self.norm, eps=self.eps)
            wanted = directions(run.keys, party.clean_logits, restart)
            jumps = Scheduled(party.images, self.norm, self.eps, lambda _: float(self.odi_size))
            images = party.walk(images, jumps, always(directed(wanted)), self.odi_steps)
            auto = AutoStep(party.images, self.norm, self.eps, self.steps)
            party.close(party.walk(images, auto, always(placed(LOSSES[self.loss])), self.steps))
        return party.end()
