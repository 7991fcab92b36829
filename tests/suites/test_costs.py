"""Costs on the card: passes must be those of the counter, times are told and never judged."""

import tomllib
from dataclasses import replace
from datetime import date

import pytest
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence, external_card
from vlm_gauntlet.methods.card import Cost, Deviation, Measured, Timing
from vlm_gauntlet.methods.registry import Method
from vlm_gauntlet.suites.conformance import Bench, default_material
from vlm_gauntlet.suites.conformance.costs import (
    check_attack_cost_as_declared,
    check_cost_as_declared,
    measure,
)


class Mirror(Defence):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return (self.backbone(images, prompts) + self.backbone(images.flip(-1), prompts)) / 2


class Smooth(Mirror):
    surrogate = Mirror.forward


def bench(defence: type[Defence], backbone: Backbone, **card: object) -> Bench:
    twin = type(defence.__name__, (defence,), {"card": external_card(defence).model_copy(update=card)})
    return Bench(Method(defence.__name__, twin), backbone, default_material(backbone, 2))


@pytest.mark.parametrize(("defence", "passes"), [(Mirror, (3, 1)), (Smooth, (2, 2))])
def test_an_attackers_gradient_is_counted_through_the_surrogate(
    defence: type[Defence], passes: tuple[int, int], tiny_backbone: Backbone
) -> None:
    right = Cost(forward=passes[0], backward=passes[1])
    status, sentence = check_attack_cost_as_declared(bench(defence, tiny_backbone, attack_cost=right))
    assert status == "pass" and sentence.endswith("as the card says")
    for wrong in (Cost(forward=passes[0], backward=0), Cost(forward=9, backward=passes[1])):
        status, sentence = check_attack_cost_as_declared(bench(defence, tiny_backbone, attack_cost=wrong))
        assert status == "fail" and "correct the card" in sentence


def test_a_deviation_may_cost_what_no_card_says(tiny_backbone: Backbone) -> None:
    views = Deviation(name="views", choices=("9", "2"), as_coded="9", differs="how many", source="none")
    costs = {"cost": Cost(forward=2, backward=0), "attack_cost": Cost(forward=9, backward=9)}
    of = bench(Mirror, tiny_backbone, deviations=(views,), **costs)
    cheaper = replace(of, method=replace(of.method, deviations={"views": "2"}))
    assert check_cost_as_declared(cheaper)[0] == "pass"
    status, sentence = check_attack_cost_as_declared(cheaper)
    assert status == "skip" and "3 forward and 1 backward" in sentence and "deviations: 9 and 9" in sentence
    assert check_attack_cost_as_declared(of)[0] == "fail"


def test_what_is_not_declared_is_measured_and_skipped(tiny_backbone: Backbone) -> None:
    undeclared = bench(Mirror, tiny_backbone)
    assert check_cost_as_declared(undeclared)[0] == check_attack_cost_as_declared(undeclared)[0] == "skip"
    assert "measured 3 forward and 1 backward" in check_attack_cost_as_declared(undeclared)[1]


def test_a_time_is_told_and_never_judged(tiny_backbone: Backbone) -> None:
    absurd = Timing(
        backbone="tiny", device="an abacus", batch_size=1, defence_ms=1e-9, attack_ms=1e9, measured=date(2026, 1, 2)
    )
    declared = {"cost": Cost(forward=2, backward=0), "attack_cost": Cost(forward=3, backward=1), "timings": (absurd,)}
    timed = bench(Mirror, tiny_backbone, **declared)
    for check, told in ((check_cost_as_declared, "1e-09"), (check_attack_cost_as_declared, "1e+09")):
        status, sentence = check(timed)
        assert status == "pass" and f"the card says {told} ms (an abacus)" in sentence
    elsewhere = bench(Mirror, tiny_backbone, **declared | {"timings": (absurd.model_copy(update={"backbone": "b"}),)})
    assert " ms" not in check_cost_as_declared(elsewhere)[1]


def test_what_is_printed_can_be_pasted(tiny_backbone: Backbone) -> None:
    found = measure(Method("mirror", Mirror), tiny_backbone)
    lines = tomllib.loads(found.toml())
    assert Cost.model_validate(lines.pop("cost")) == found.cost == Cost(forward=2, backward=0)
    assert Measured.model_validate(lines) == Measured(attack_cost=found.attack_cost, timings=(found.timing,))
    assert found.timing.backbone == "tiny" and found.timing.batch_size == 16 and "thread" in found.timing.device
