"""What a plan says that an attack asks is what it asks of a model that it cannot break."""

from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.a3 import A3
from vlm_gauntlet.attacks.adaptive.ensemble import AdaptiveEnsemble
from vlm_gauntlet.attacks.autoattack import APGDCE, APGDT
from vlm_gauntlet.attacks.base import Attack
from vlm_gauntlet.attacks.ensembles import Fare, Rand, Standard
from vlm_gauntlet.attacks.fab import FABT
from vlm_gauntlet.attacks.fmn import FMN
from vlm_gauntlet.attacks.noise import Noise
from vlm_gauntlet.attacks.odi import ODIAPGD, ODIPGD
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.pma import PMA
from vlm_gauntlet.attacks.rays import RayS
from vlm_gauntlet.attacks.square import Square
from vlm_gauntlet.attacks.transfer_query import TransferQuery
from vlm_gauntlet.suites.planning.questions import Questions, Setting, questions

CLASSES, IMAGES = 12, 2


@dataclass
class Counting:
    """A victim that nothing breaks, and the images that it was asked about with and without a gradient."""

    weights: Tensor
    counts: dict[bool, int]

    def __call__(self, images: Tensor) -> Tensor:
        self.counts[images.requires_grad] += len(images)
        bias = 100.0 * torch.eye(CLASSES)[0]
        return images.flatten(1) @ self.weights + bias

    def select(self, index: Tensor) -> "Counting":
        return self


def counted(attack: Attack) -> Questions:
    generator = torch.Generator().manual_seed(0)
    victim = Counting(torch.randn(3 * 64, CLASSES, generator=generator), {True: 0, False: 0})
    images = torch.rand(IMAGES, 3, 8, 8, generator=generator)
    attack(victim, images, torch.zeros(IMAGES, dtype=torch.long), tuple(range(IMAGES)))
    return Questions(victim.counts[True] // IMAGES, victim.counts[False] // IMAGES)


BUDGET = ("linf", 1 / 255)
EXACT = [
    PGD(*BUDGET, steps=7, restarts=2), PGD(*BUDGET, steps=3, eot=4), PGD(*BUDGET, steps=3, loss="dlr", eot=2),
    APGDCE(*BUDGET, 20), APGDCE(*BUDGET, 20, restarts=2, eot=3), APGDT(*BUDGET, 20, n_targets=3), FMN(*BUDGET, steps=9),
    Square(*BUDGET, queries=30), Noise(*BUDGET, queries=5), RayS(*BUDGET, queries=30),
    Rand(*BUDGET, 20, eot=2), Fare(*BUDGET, 20), PMA(*BUDGET, steps=6, restarts=2), PMA(*BUDGET, steps=4, eot=3),
    ODIPGD(*BUDGET, 5, restarts=2, eot=2), ODIAPGD(*BUDGET, 5, restarts=2, eot=2), A3(*BUDGET, rounds=3, eot=2),
]  # fmt: skip
BOUNDED = [
    FABT(*BUDGET, steps=10), Standard(*BUDGET, 20), TransferQuery(*BUDGET, queries=30), AdaptiveEnsemble(*BUDGET),
    AdaptiveEnsemble(*BUDGET, eot=4, looks=4, rounds=3),
]  # fmt: skip


def planned(attack: Attack) -> Questions:
    draws = attack.averaged_draws > 1 or getattr(attack, "looks", 1) > 1
    found = questions(attack, Setting(classes=CLASSES, randomised=draws, sources=0))
    assert found is not None
    return found


@pytest.mark.parametrize("attack", EXACT, ids=lambda a: a.info.name)
def test_gradients_are_counted_exactly_and_answers_nearly(attack: Attack) -> None:
    said, found = planned(attack), counted(attack)
    assert said.gradients == found.gradients
    assert found.answers <= said.answers <= found.answers + 4 + 0.1 * found.answers


@pytest.mark.parametrize("attack", BOUNDED, ids=lambda a: a.info.name)
def test_what_may_leave_early_is_bounded(attack: Attack) -> None:
    if isinstance(attack, AdaptiveEnsemble) and attack.eot == 1:
        attack = replace(attack, looks=1)
    said, found = planned(attack), counted(attack)
    assert found.gradients <= said.gradients and found.answers <= said.answers
    assert found.gradients >= 0.05 * said.gradients


def test_what_bends_a_gradient_costs_one_more() -> None:
    plain, gate = PGD(*BUDGET, steps=5), PGD(*BUDGET, steps=5, evasion=Fraction(1, 2))
    assert planned(gate).gradients == 2 * planned(plain).gradients


def test_an_attack_that_nobody_knows_has_no_count() -> None:
    assert questions(object(), Setting()) is None
    assert questions(None, Setting()) == Questions()
