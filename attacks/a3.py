"""A3, adaptive auto attack (Liu et al. 2022, arXiv 2203.05154): rounds that learn where to start and whom to leave.

A round drives random starts along directions w of the outputs (as `odi.py`), then ascends the margin of the logits.
- Adaptive direction initialisation: round 1 draws w ~ U(-1, 1)^C and sums, over the samples that fell, w at the class
  that they fell to and w at the true one. The signs of both sums then fix two entries of w in later rounds: at one
  wrong class (the next likeliest in each round) +-0.8 C/10, and at the true one U(-0.1, 0.5) or U(-0.5, 0.1) C/10.
- Online statistics-based discarding: later rounds attack only a share of those that stand, the nearest to falling.

Schedules and constants are those of the authors' code (liuye6666/adaptive_auto_attack). It has three more rounds, of
which the last is repeated up to 50 times within 1000 gradients an image, and another schedule where the starts alone
break more than 5 %; neither is here.
"""

import math
from dataclasses import dataclass as plain
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws, key_of

from .adaptive.party import Party, Scheduled, always, directed, placed
from .balls import random_point
from .base import STRICT, AttackInfo, Run
from .gradients import GradientAttack
from .losses import margin, wrong_classes
from .odi import directions


@plain(frozen=True)
class Round:
    """Steps along w, steps on the margin, and the share of those that stand."""

    odi: int
    steps: int
    share: float = 1.0


ROUNDS = (
    Round(0, 8), Round(7, 15), Round(7, 15), Round(7, 32, 0.7), Round(7, 37, 0.6), Round(7, 37, 0.5),
    Round(7, 42, 0.4), Round(7, 47, 0.3), Round(7, 52, 0.2), Round(7, 57, 0.1),
)  # fmt: skip
MANY = 100  # classes from which the signs are not asked: away from the true one, towards the other
WEIGHT = 0.8


@dataclass(config=STRICT)
class A3(GradientAttack):
    """Rounds over a batch; the statistics couple its samples.

    Args:
        rounds: of the schedule.
        at_least: so many samples are never discarded: in smaller batches nobody is.
    """

    info = AttackInfo(
        "a3",
        "Adaptive auto attack: starts along output directions that worked before, effort where samples nearly fall",
        "Liu et al. 2022, arXiv:2203.05154",
    )

    rounds: Annotated[int, Field(ge=1, le=len(ROUNDS))] = len(ROUNDS)
    at_least: Annotated[int, Field(ge=1)] = 100
    random_start: Literal[True] = True
    loss: Literal["margin"] = "margin"
    selection: Literal["any-iterate"] = "any-iterate"
    reduction: Literal["sum"] = "sum"

    @property
    def couples_batch(self) -> bool:
        """See Attack."""
        return True

    @property
    def total_steps(self) -> int:
        """See GradientAttack; of a sample that is never discarded."""
        return sum(each.odi + each.steps for each in ROUNDS[: self.rounds])

    def perturb(self, run: Run) -> Tensor:
        """See Attack. What stands is as the round of the highest margin left it."""
        party = Party(run, margin, self.eot)
        signs = (0.0, 0.0)
        for number, each in enumerate(ROUNDS[: self.rounds]):
            party.open(self.nearest(party, each.share))
            begun = party.places
            images = random_point(party.images, Draws(party.keys, number), norm=self.norm, eps=self.eps)
            wanted = self.aimed(run, party.clean_logits, number, signs)
            jumps = Scheduled(party.images, self.norm, self.eps, lambda _: 1.0)
            images = party.walk(images, jumps, always(directed(wanted)), each.odi)
            walk = Scheduled(party.images, self.norm, self.eps, partial(share_of, steps=each.steps))
            party.close(party.walk(images, walk, always(placed(margin)), each.steps))
            if number == 1:
                signs = learned(wanted, begun[party.fallen[begun] >= 0], party.fallen, run.labels)
        return party.end()

    def nearest(self, party: Party, share: float) -> Tensor:
        """Whom a round attacks, as indices of those that stand: the highest margins so far."""
        count = len(party.standing)
        kept = min(count, max(self.at_least, int(share * count)))
        return party.height[party.standing].argsort(descending=True, stable=True)[:kept].sort().values

    @staticmethod
    def aimed(run: Run, clean_logits: Tensor, number: int, signs: tuple[float, float]) -> Tensor:
        """w [B, C] of a round."""
        wanted, (rows, classes) = directions(run.keys, clean_logits, number), clean_logits.shape
        if number < 2 or classes < 2:
            return wanted
        fell, true = signs if classes < MANY else (0.0, 0.0)
        scale, everyone = classes / 10, torch.arange(rows, device=wanted.device)
        rank = (number - 1) % min(reach(classes), classes - 1)
        wanted[everyone, wrong_classes(clean_logits, run.labels)[:, rank]] = (-WEIGHT if fell < 0 else WEIGHT) * scale
        low = -0.1 if true > 0 else -0.5
        draws = Draws(tuple(key_of(key, "true class") for key in run.keys), number)
        wanted[everyone, run.labels] = scale * draws.uniform(wanted[:, 0], low, low + 0.6)
        return wanted


def learned(wanted: Tensor, places: Tensor, fallen: Tensor, labels: Tensor) -> tuple[float, float]:
    """Sums over the samples at `places`: of w [B, C] at the class each fell to, and at the true one."""
    used = wanted[places]
    return (
        float(used.gather(1, fallen[places][:, None]).sum()),
        float(used.gather(1, labels[places][:, None]).sum()),
    )


def reach(classes: int) -> int:
    """How many wrong classes take turns."""
    return 9 if classes <= 10 else 14 if classes <= 100 else 20


def share_of(step: int, steps: int) -> float:
    """Length of a step on the margin, as a share of eps: along half a cosine."""
    least = 0.1 if steps <= 10 else 0.001
    return least + (1 - least) * (1 + math.cos(math.pi * step / (steps + 1))) / 2
