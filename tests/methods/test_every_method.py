"""What each registered method must keep, on a tiny random CLIP through the same code path."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Gradient
from vlm_gauntlet.methods.base import GRADIENTS, Defence
from vlm_gauntlet.methods.registry import method, methods
from vlm_gauntlet.methods.victims import BoundDefence

KEYS = tuple(range(6))

OF_ITS_VALUES = [route for route in GRADIENTS if route != "relaxed"]  # a relaxed form has values of its own


@pytest.fixture(params=sorted(methods()))
def defence(request: pytest.FixtureRequest, tiny_backbone: Backbone) -> Defence:
    try:
        return method(request.param).build(tiny_backbone)
    except UnavailableError as missing:
        pytest.skip(str(missing))


def logits(defence: Defence, images: Tensor, prompts: PromptSet, keys: tuple[int, ...] = KEYS, call: int = 1) -> Tensor:
    return defence(images, prompts, draws=Draws(keys, call))


def test_a_sample_does_not_see_its_neighbours(defence: Defence, images: Tensor, prompts: PromptSet) -> None:
    whole = logits(defence, images, prompts)
    alone = torch.cat([logits(defence, images[i : i + 1], prompts, (k,)) for i, k in enumerate(KEYS)])
    turned = logits(defence, images.flip(0), prompts, KEYS[::-1]).flip(0)
    assert torch.allclose(whole, alone, atol=1e-3) or defence.batch_coupled
    assert torch.allclose(whole, turned, atol=1e-3)


def test_randomness_is_declared(defence: Defence, images: Tensor, prompts: PromptSet) -> None:
    assert torch.equal(logits(defence, images, prompts), logits(defence, images, prompts))
    fresh = logits(defence, images, prompts, call=2)
    assert torch.equal(logits(defence, images, prompts), fresh) != defence.card.randomised


def test_a_surrogate_has_the_values_of_its_defence(defence: Defence, images: Tensor, prompts: PromptSet) -> None:
    for route in OF_ITS_VALUES:
        through = defence(images, prompts, draws=Draws(KEYS, 1), gradient=route)
        assert torch.allclose(through, logits(defence, images, prompts), atol=1e-4), route


@pytest.mark.parametrize("route", GRADIENTS)
def test_an_attack_leaves_the_parameters_alone(
    route: Gradient, defence: Defence, images: Tensor, prompts: PromptSet
) -> None:
    before = {n: p.clone() for n, p in defence.named_parameters()}
    victim = BoundDefence(defence, prompts, KEYS, route)
    PGD("linf", 8 / 255, steps=2)(victim, images, torch.zeros(6, dtype=torch.long), KEYS)
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in defence.named_parameters())


def test_the_cards_cost_is_what_the_counter_measures(defence: Defence, images: Tensor, prompts: PromptSet) -> None:
    passes = defence.backbone.passes
    forward, backward = passes.forward, passes.backward
    logits(defence, images[:1], prompts, (0,))
    cost = defence.card.cost
    assert cost is not None
    assert (passes.forward - forward, passes.backward - backward) == (cost.forward, cost.backward)


def test_the_cards_attack_cost_is_what_the_counter_measures(
    defence: Defence, images: Tensor, prompts: PromptSet
) -> None:
    before = replace(defence.backbone.passes)
    victim = BoundDefence(defence, prompts, (0,), "straight-through")
    input_gradient(victim, images[:1], torch.zeros(1, dtype=torch.long), cross_entropy)
    passes, cost = defence.backbone.passes - before, defence.card.attack_cost
    assert cost is not None
    assert (passes.forward, passes.backward) == (cost.forward, cost.backward)


@pytest.mark.parametrize(
    "name", [f"{m}+{d.name}={d.as_coded}" for m, c in methods().items() for d in c.card.deviations]
    + [f"{m}+{d.name}={d.choices[1]}" for m, c in methods().items() for d in c.card.deviations]
)  # fmt: skip
def test_every_switch_can_be_chosen(name: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    try:
        chosen = method(name).build(tiny_backbone)
    except UnavailableError as missing:
        assert "gauntlet train" in str(missing)
        return
    key, _, value = name.partition("+")[2].partition("=")
    assert chosen.deviations[key] == value
    value = logits(chosen, images, prompts)
    assert value.shape == (6, 5)
    for route in OF_ITS_VALUES:
        through = chosen(images, prompts, draws=Draws(KEYS, 1), gradient=route)
        assert torch.allclose(through, value, atol=1e-4), route
