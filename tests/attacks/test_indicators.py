"""Each indicator fires on the victim or attack that was built for it, and no other does."""

from dataclasses import dataclass

import pytest
import torch

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.autoattack import APGDCE
from vlm_gauntlet.attacks.balls import lp_norm
from vlm_gauntlet.attacks.base import Attack, Plain
from vlm_gauntlet.attacks.indicators import (
    attack_indicators,
    batch_dependent,
    dead_gradient,
    loss_not_rising,
    robust_above_clean,
    silent_success,
    unstable_prediction,
)
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.attacks.pgd import PGD

EPS = 0.1
IMAGES = torch.full((4, 3, 4, 4), 0.5)
LABELS = torch.zeros(4, dtype=torch.long)


def two(score):
    """Logits of two classes; class 0 is lost where the score exceeds 0."""
    return torch.stack([torch.zeros_like(score), score], dim=1)


def mean(images):
    return images.mean((1, 2, 3))


def honest(images):
    """Out of reach, with an honest gradient."""
    return two(mean(images) - 0.9)


def stationary(images):
    """Flat exactly at the clean image, steep around it."""
    return two(10 * ((images - 0.5) ** 2).mean((1, 2, 3)) - 0.5)


def masked(images):
    """The honest forward pass; its gradient is a millionth."""
    score = mean(images) - 0.9
    return two(score.detach() + 1e-6 * (score - score.detach()))


def not_a_number(images):
    """The red channel has NaN gradients, the others climb."""
    return two(mean(images[:, 1:]) - 0.9 + (images[:, 0] - images[:, 0]).sqrt().sum((1, 2)))


def valley(images):
    """A full step jumps over the top and lands below where it began."""
    return two(-0.2 - (mean(images) - 0.52).abs())


def ridge(images):
    """Lost half way; the end is higher than the start, yet right again."""
    return two(0.02 - (mean(images) - 0.56).abs())


class Moody:
    """Near the border, and shifted at every other call."""

    calls = 0

    def __call__(self, images):
        self.calls += 1
        return two(mean(images) - 0.5 + 0.01 * (-1) ** self.calls)


def misled(images):
    """Wrong about the clean images."""
    return two(mean(images) - 0.48)


class Leaves(PGD):
    """Leaves its ball."""

    def perturb(self, run):
        return super().perturb(run) + 0.2


@dataclass
class Darkens(Attack):
    """Helps the model."""

    def perturb(self, run):
        return run.images - self.eps


def fired(model, attack):
    """All eight indicators of one evaluation, those that fired."""
    victim = Plain(model)
    result = attack(victim, IMAGES, LABELS, (0, 1, 2, 3))
    made = list(attack_indicators(result.telemetry, result.success, result.repaired, eps=attack.eps))
    norms = [lp_norm(input_gradient(Plain(m), IMAGES, LABELS, cross_entropy)[0], "l2") for m in (model, honest)]
    made.append(dead_gradient(*norms))
    predictions = torch.stack([model(IMAGES).argmax(1) for _ in range(4)])
    made.append(unstable_prediction(predictions))
    clean = float((predictions[0] == LABELS).float().mean())
    made.append(robust_above_clean(clean, float((~result.success).float().mean())))
    return {indicator.name for indicator in made if indicator.fired}


def from_clean(steps, eps=EPS):
    return PGD("linf", eps, steps=steps, step_size=1 / steps, random_start=False)


@pytest.mark.parametrize(
    ("model", "attack", "names"),
    [
        (honest, from_clean(4), set()),
        (honest, from_clean(4, eps=0.0), set()),
        (honest, APGDCE("linf", EPS, steps=5), set()),
        (stationary, APGDCE("linf", EPS, steps=5), {"zero-gradient"}),
        (masked, from_clean(4), {"dead-gradient"}),
        (not_a_number, from_clean(4), {"nan-gradient"}),
        (valley, from_clean(1), {"loss-not-rising"}),
        (ridge, from_clean(2), {"silent-success"}),
        (honest, Leaves("linf", EPS, random_start=False), {"out-of-ball"}),
        (Moody(), from_clean(4), {"unstable-prediction"}),
        (misled, Darkens("linf", EPS), {"robust-above-clean"}),
    ],
)
def test_exactly_the_built_in_failure_fires(model, attack, names):
    assert fired(model, attack) == names


def test_selecting_any_iterate_cures_silent_success():
    attack = PGD("linf", EPS, steps=2, step_size=0.5, random_start=False, selection="any-iterate")
    assert fired(ridge, attack) == set()


def test_values_by_hand():
    success = torch.tensor([True, False, False, False])
    rising = loss_not_rising(torch.ones(4), torch.tensor([0.0, 2.0, 1.0, 0.5]), success)
    assert rising.value == pytest.approx(2 / 3) and rising.threshold == 0.05
    assert silent_success(torch.tensor([1.0, 1.0, 0.0, 0.0]), success).value == 0.25
    assert dead_gradient(torch.tensor([1.0, 2.0, 3.0, 0.0]), torch.full((4,), 4.0)).value == 0.5
    assert robust_above_clean(0.5, 0.25).value == -0.25


def test_one_shifted_probe_among_many_is_enough():
    assert batch_dependent(torch.tensor([0.0] * 30 + [0.06])).fired
    assert not batch_dependent(torch.full((31,), 0.04)).fired


def test_nothing_to_compare_fires_nothing():
    everything = torch.ones(3, dtype=torch.bool)
    assert not loss_not_rising(torch.ones(3), torch.ones(3), everything).fired
    assert not dead_gradient(torch.zeros(3), torch.zeros(3)).fired


def test_averaging_over_draws_allows_a_tenth_of_unstable_images():
    predictions = torch.zeros(3, 20, dtype=torch.long)
    predictions[1, 0] = 1
    assert unstable_prediction(predictions).fired
    assert not unstable_prediction(predictions, eot=4).fired
    predictions[2, :3] = 1
    assert unstable_prediction(predictions, eot=4).fired
