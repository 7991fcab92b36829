"""A gradient predicts its own function, and neither noise nor another model's gradient does."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.gradient_check import DIRECTIONS, NOTHING, agreement
from vlm_gauntlet.attacks.indicators import gradient_misleads

B, EPS = 16, 0.05
KEYS = tuple(range(B))
LABELS = torch.zeros(B, dtype=torch.long)
Function = Callable[[Tensor], Tensor]


def images(seed: int = 0) -> Tensor:
    return 0.2 + 0.6 * torch.rand(B, 3, 6, 6, generator=torch.Generator().manual_seed(seed))


def network(seed: int) -> Callable[[Tensor], Tensor]:
    weights = torch.randn(108, 5, generator=torch.Generator().manual_seed(seed))
    return lambda x: torch.tanh(x.flatten(1) @ weights / 5)


def with_gradient_of(
    value: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    return lambda x: value(x).detach() + other(x) - other(x).detach()


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_its_own_gradient_predicts(seed: int) -> None:
    found = agreement(Plain(network(seed)), images(seed), LABELS, KEYS, eps=EPS)
    assert found.mean() > 0.9 and found.max() <= 1 + 1e-5


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_another_functions_gradient_does_not_whatever_its_size(scale: float) -> None:
    own, other = network(1), network(2)
    victim = with_gradient_of(own, lambda x: scale * other(x))
    found = torch.cat([agreement(Plain(victim), images(s), LABELS, KEYS, eps=EPS) for s in range(8)])
    # Independent cosines in few dimensions: mean 0, variance 1 / DIRECTIONS.
    assert found.mean().abs() < 4 / (DIRECTIONS * len(found)) ** 0.5
    assert gradient_misleads(found, found).fired


def test_a_scaled_gradient_is_still_its_own() -> None:
    """A defence may answer in other units: what counts is the direction."""
    own = network(1)
    victim = with_gradient_of(own, lambda x: 1e-3 * own(x))
    assert agreement(Plain(victim), images(), LABELS, KEYS, eps=EPS).mean() > 0.9


def test_a_missing_gradient_agrees_with_nothing_and_a_constant_tells_nothing() -> None:
    own = network(1)
    assert (agreement(Plain(lambda x: own(x).detach()), images(), LABELS, KEYS, eps=EPS) == 0).all()
    constant = agreement(Plain(lambda x: 0 * own(x)), images(), LABELS, KEYS, eps=EPS)
    assert (constant == NOTHING).all()
    assert not gradient_misleads(constant, constant).fired


def test_the_box_is_kept() -> None:
    def careful(x: Tensor) -> Tensor:
        assert x.min() >= 0 and x.max() <= 1
        return network(1)(x)

    assert agreement(Plain(careful), images().round(), LABELS, KEYS, eps=EPS).mean() > 0.9


@pytest.mark.parametrize("lower", ["clean", "attacked"])
def test_the_worse_of_both_places_counts(lower: str) -> None:
    good, bad = torch.full((4,), 0.9), torch.tensor([0.5, 0.1, NOTHING, NOTHING])
    found = gradient_misleads(*((bad, good) if lower == "clean" else (good, bad)))
    assert found.fired and found.value == pytest.approx(0.3)
