"""PMA (Xie et al. 2025, arXiv 2411.15210): the margin of the probabilities, one of its parts first, then the whole.

With p the softmax of the logits and p_max the largest of a wrong class, K steps ascend each random start twice:
    steps 1 to K/2 - 1    -p_y in the first ascent, p_max in the second
    steps K/2 to K - 1    p_max - p_y
and step i has the length eps (1 + cos(pi (j - 1) / (K - K/2))), j = i counted from where its stage begins: 2 eps,
falling to nearly nothing within each stage. This is the margin decomposition of Jiang et al. (arXiv 2006.13726) on
probabilities. Step 0 goes *towards* the true class (+p_y). Stages, lengths and step 0 are as the authors' code has
them (OpenTAI/taiadv at ae28cb7, attacks/PMA.py).
"""

import math
from fractions import Fraction
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws

from .adaptive.party import Party, PlacedLoss, Scheduled, placed
from .balls import random_point
from .base import STRICT, AttackInfo, Number, Run
from .gradients import GradientAttack
from .losses import probability_margin

PARTS = ("true", "wrong")


def true_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """p_y [B]."""
    return logits.softmax(1).gather(1, labels[:, None]).squeeze(1)


def wrong_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """The largest probability of a wrong class [B]."""
    return probability_margin(logits, labels) + true_probability(logits, labels)


def escape(logits: Tensor, labels: Tensor) -> Tensor:
    """-p_y [B]."""
    return -true_probability(logits, labels)


@dataclass(config=STRICT)
class PMA(GradientAttack):
    """Two ascents from each random start; who is wrong in every draw leaves.

    Args:
        steps: of one ascent, half of them in each stage.
        restarts: random starts, each ascended twice, from points of its own.
        step_size: of a stage's first step, as a fraction of eps.
    """

    info = AttackInfo(
        "pma",
        "Probability margin attack: half the steps on p_y or p_max alone, half on their difference",
        "Xie et al. 2025, arXiv:2411.15210",
    )

    steps: Annotated[int, Field(ge=2)] = 100
    restarts: Annotated[int, Field(ge=1)] = 1
    step_size: Annotated[Number, Field(ge=2, le=2)] = Fraction(2)
    random_start: Literal[True] = True
    loss: Literal["pm"] = "pm"
    selection: Literal["any-iterate"] = "any-iterate"
    reduction: Literal["sum"] = "sum"

    @property
    def total_steps(self) -> int:
        """See GradientAttack; of both ascents."""
        return len(PARTS) * self.restarts * self.steps

    def perturb(self, run: Run) -> Tensor:
        """See Attack. What stands is as the ascent of the highest margin left it."""
        party = Party(run, probability_margin, self.eot)
        for call, part in enumerate(PARTS * self.restarts):
            party.open()
            images = random_point(party.images, Draws(party.keys, call), norm=self.norm, eps=self.eps)
            walk = Scheduled(party.images, self.norm, self.eps, self.share)
            party.close(party.walk(images, walk, partial(self.ascended, part), self.steps))
        return party.end()

    def ascended(self, part: str, step: int) -> PlacedLoss:
        """What a step ascends, in the ascent that begins with this part of the margin."""
        if step == 0:
            return placed(true_probability)
        if 2 * step < self.steps:
            return placed(escape if part == "true" else wrong_probability)
        return placed(probability_margin)

    def share(self, step: int) -> float:
        """Length of a step as a share of eps."""
        half = self.steps / 2
        since = step - half if step > half else step
        return 1 + math.cos(math.pi * (since - 1) / half)
