"""What an attack by gradients asks of a batch: whose gradient, which draws, away from which labels."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.autoattack import APGDCE
from vlm_gauntlet.attacks.base import Victim
from vlm_gauntlet.attacks.gradients import GradientAttack
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

CLASSES = PromptSet.from_templates(["dark", "bright"], ["{}"])


@dataclass
class Bright:
    """Says how bright an image is; counts its calls."""

    calls: list[int] = field(default_factory=list)

    def __call__(self, images: Tensor) -> Tensor:
        self.calls.append(len(images))
        score = images.flatten(1).mean(1)
        return torch.stack([0.5 - score, score - 0.5], 1)

    def select(self, index: Tensor) -> "Bright":
        return self


@dataclass
class Batch:
    """A context that records what it is asked for."""

    deterministic: bool = True
    images: Tensor = field(default_factory=lambda: torch.full((3, 3, 2, 2), 0.52))
    labels: Tensor = field(default_factory=lambda: torch.tensor([1, 1, 0]))
    keys: tuple[int, ...] = (1, 2, 3)
    asked: list[tuple[str, int, PromptSet | None]] = field(default_factory=list)
    bright: Bright = field(default_factory=Bright)
    prompts: PromptSet = CLASSES

    def victim(self, gradient: str = "direct", *, period: int = 0, prompts: PromptSet | None = None) -> Victim:
        self.asked.append((gradient, period, prompts))
        return self.bright

    @property
    def known_backbone(self) -> Backbone:
        raise AssertionError("an attack on images alone reads no text")


@pytest.mark.parametrize(
    ("attack", "asked"),
    [
        (PGD("linf", 0.1, steps=1), ("direct", 0, None)),
        (PGD("linf", 0.1, steps=1, gradient="unrolled"), ("unrolled", 0, None)),
        (APGDCE("linf", 0.1, steps=2, gradient="backbone"), ("backbone", 0, None)),
        (PGD("linf", 0.1, steps=1, eot=7, draws="fixed"), ("direct", 7, None)),
        (PGD("linf", 0.1, steps=1, eot=7), ("direct", 0, None)),
    ],
)
def test_whose_gradient_and_which_draws(attack: GradientAttack, asked: tuple[object, ...]) -> None:
    batch = Batch()
    attack.attack_batch(batch)
    assert batch.asked == [asked]


@pytest.mark.parametrize(("deterministic", "calls"), [(True, 1), (False, 4)])
def test_a_victim_that_draws_nothing_is_asked_once_a_step(deterministic: bool, calls: int) -> None:
    batch = Batch(deterministic)
    PGD("linf", 0.01, steps=5, eot=4).attack_batch(batch)
    assert len(batch.bright.calls) == 5 * calls + 2, "the steps, the last iterate, and the base class's own look"


def test_pseudo_labels_are_what_the_victim_says() -> None:
    """The third image is called bright though its label says dark: away from the label is brighter still."""
    batch, eps = Batch(), 0.1
    truth, own = (PGD("linf", eps, labels=which).attack_batch(batch).result for which in ("true", "pseudo"))
    assert truth is not None and own is not None
    assert truth.images[2].mean() > 0.52 > truth.images[0].mean()
    assert (own.images.flatten(1).mean(1) < 0.52).all()


def test_parts_that_a_defence_must_offer() -> None:
    assert PGD("linf", 0.1).needs == ()
    asked = PGD("linf", 0.1, gradient="unrolled", evasion=1.0, branches=1.0)
    assert asked.needs == ("unrolled", "gate_margin", "branch_logits") and asked.tailored
    assert PGD("linf", 0.1, reduction="mean").couples_batch and not PGD("linf", 0.1).couples_batch
    assert (PGD("linf", 0.1, eot=3).averaged_draws, APGDCE("linf", 0.1).averaged_draws) == (3, 1)
