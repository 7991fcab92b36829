"""The adaptive ensemble against defences that need each of its pieces, and what it says of its own budget."""

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vlm_gauntlet.attacks.adaptive.ensemble import AdaptiveEnsemble
from vlm_gauntlet.attacks.adaptive.routes import Routes, Seen, judged, pooled_gradient
from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.losses import cross_entropy, margin
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.protocols import protocol, varied
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.undefended.method import Undefended
from vlm_gauntlet.suites.batch import BatchContext, Evaluation

EPS = 0.1
GREY = torch.full((6, 3, 4, 4), 0.5)
DARK = torch.zeros(6, dtype=torch.long)
KEYS = tuple(range(6))


def shifted(images: Tensor, *, needed: float, scale: float = 1.0) -> Tensor:
    """Class 0 (dark) until the mean brightness has risen by `needed`."""
    score = scale * (images.double().flatten(1).mean(1) - 0.5 - needed)
    return torch.stack([-score / 2, score / 2], dim=1)


@dataclass
class Patches:
    """Looks at four random pixels a call: an average over few calls never sees the whole image."""

    keys: tuple[int, ...]
    needed: float
    calls: int = field(default=0, init=False)

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        flat = images.double().flatten(1)
        chosen = Draws(self.keys, self.calls).uniform(flat.float(), 0.0, 1.0).topk(4, dim=1).indices
        score = 10 * (flat.gather(1, chosen).mean(1) - 0.5 - self.needed)
        return torch.stack([-score / 2, score / 2], dim=1)

    def select(self, index: Tensor) -> "Patches":
        return Patches(tuple(key_of(self.keys[i], self.calls) for i in index.tolist()), self.needed)


def right_share(images: Tensor, needed: float) -> float:
    """Over fresh draws."""
    fresh = Patches(tuple(range(10, 16)), needed)
    return float(torch.stack([fresh(images).argmax(1) == DARK for _ in range(50)]).float().mean())


def test_random_views_fall_to_momentum_and_rounds_where_pgd_with_four_draws_leaves_them() -> None:
    plain = PGD("linf", EPS, steps=20, eot=4, selection="any-iterate")(Patches(KEYS, 0.095), GREY, DARK, KEYS)
    assert right_share(plain.images, 0.095) > 0.5
    result = AdaptiveEnsemble("linf", EPS, eot=4, n_targets=0, rounds=3)(Patches(KEYS, 0.095), GREY, DARK, KEYS)
    assert right_share(result.images, 0.095) < 0.1


def test_looks_are_not_at_the_draws_that_a_gradient_saw() -> None:
    """Eight steps on four pixels each: at the same eight draws, looks would find exactly these pixels moved."""
    attack = AdaptiveEnsemble("linf", EPS, steps=8, rounds=1, eot=1, looks=8, n_targets=0)
    result = attack(Patches(KEYS, 0.06), GREY, DARK, KEYS)
    assert not result.telemetry["converged"].any()


def test_what_fell_by_luck_is_attacked_again() -> None:
    """Two looks are soon passed by luck: the next round looks again, at other draws."""
    attack = AdaptiveEnsemble("linf", EPS, steps=4, rounds=4, eot=1, looks=2, n_targets=0)
    once, often = (replace(attack, rounds=rounds)(Patches(KEYS, 0.08), GREY, DARK, KEYS) for rounds in (1, 4))
    assert (often.telemetry["rounds"] > 2).all()
    assert right_share(often.images, 0.08) < right_share(once.images, 0.08) - 0.1


def test_a_saturated_cross_entropy_falls_to_the_margin() -> None:
    victim = Plain(partial(shifted, needed=0.05, scale=1e6))
    assert not PGD("linf", EPS, steps=20)(victim, GREY, DARK, KEYS).success.any()
    assert AdaptiveEnsemble("linf", EPS, looks=1)(victim, GREY, DARK, KEYS).success.all()


def test_a_dead_gradient_falls_to_a_live_relaxed_one() -> None:
    alive = Plain(partial(shifted, needed=0.05))
    dead = Plain(lambda images: shifted(images.detach(), needed=0.05))
    attack = AdaptiveEnsemble("linf", EPS, looks=1, rounds=1)
    assert not attack(dead, GREY, DARK, KEYS).success.any()
    flattering = Plain(partial(shifted, needed=-1.0))  # calls everything bright: its own answer counts for nothing
    for relaxed in (alive, flattering):
        assert attack(Routes(dead, {"direct": dead, "relaxed": relaxed}), GREY, DARK, KEYS).success.all()


def test_a_relaxed_form_that_leads_away_does_not_shield_the_given_gradient() -> None:
    alive = Plain(partial(shifted, needed=0.05))
    astray = Plain(lambda images: shifted(1 - images, needed=0.05))
    attack = AdaptiveEnsemble("linf", EPS, looks=1, rounds=1)
    assert attack(Routes(alive, {"direct": alive, "relaxed": astray}), GREY, DARK, KEYS).success.all()


def test_a_dead_gradient_falls_to_what_transfers() -> None:
    alive, dead = Plain(partial(shifted, needed=0.05)), Plain(lambda images: shifted(images.detach(), needed=0.05))
    attack = AdaptiveEnsemble("linf", EPS, looks=1, rounds=1)
    for sources, falls in (({}, False), ({"other": alive}, True), ({"dead": dead, "other": alive}, True)):
        assert bool(attack(Routes(dead, {"direct": dead}, sources), GREY, DARK, KEYS).success.all()) == falls


def test_a_dearer_way_takes_one_goal_a_round_and_the_given_gradient_changes_its_own() -> None:
    attack, victim = AdaptiveEnsemble("linf", EPS, n_targets=2), Plain(partial(shifted, needed=0.05))
    routes = Routes(victim, {"direct": victim, "relaxed": victim, "unrolled": victim})
    for number, given_goal in ((0, "margin"), (1, "ce"), (2, "margin")):
        asked = [(ascent.way, ascent.goal) for ascent in attack._ascents(routes, number, 10)]
        cheap = [("relaxed", goal) for goal in ("ce", "margin", 0, 1)]
        assert asked == [*cheap, ("direct", given_goal), ("unrolled", "margin")]


@dataclass
class Asked:
    """Answers brightness with the noise of its key; counts how many images it saw."""

    keys: tuple[int, ...]
    seen: list[int]

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        noise = Draws(self.keys, 1).normal(images[:, 0, 0, 0])
        score = images.flatten(1).mean(1) - 0.5 + 0.05 * noise
        return torch.stack([-score, score], dim=1)

    def select(self, index: Tensor) -> "Asked":
        return Asked(tuple(self.keys[i] for i in index.tolist()), self.seen)


def test_an_image_that_surely_trails_is_looked_at_no_further() -> None:
    seen: list[int] = []
    looks, places = [Asked(tuple(range(6 * i, 6 * i + 6)), seen) for i in range(8)], torch.arange(6)
    best = judged(looks, places, GREY - 0.2, DARK)
    assert seen == [6] * 8 and best.margins.isfinite().all()
    seen.clear()
    brighter = torch.tensor([0.1, -0.1, 0.1, -0.1, -0.1, 0.0])  # the last one is the best image itself
    found = judged(looks, places, GREY - 0.2 + brighter.view(6, 1, 1, 1), DARK, best)
    assert seen == [6, 6, 3, 3, 3, 3, 3, 3]
    assert found.beats(best).tolist() == [True, False, True, False, False, False]
    alone = judged(looks, places, GREY - 0.2 + brighter.view(6, 1, 1, 1), DARK)
    for part in ("right", "margins", "logits"):
        assert torch.equal(getattr(found, part)[[0, 2, 5]], getattr(alone, part)[[0, 2, 5]])
    assert torch.equal(found.beats(best), alone.beats(best))


def test_looks_that_do_not_agree_drop_no_image_and_those_that_do_drop_one() -> None:
    best = Seen(torch.ones(4, 8, dtype=torch.bool), torch.zeros(4, 8), torch.zeros(4, 2))
    margins = torch.full((4, 8), -torch.inf)
    margins[:, :2] = torch.tensor([[-1.0, -1.01], [-1.0, 0.5], [-1.0, -0.1], [-1.0, -1.0]])
    wrong_once = torch.tensor([True, True, True, False])[:, None].expand(4, 8)
    assert Seen(wrong_once, margins, best.logits).trails(best, 2).tolist() == [True, False, False, False]
    fell_once = Seen(torch.arange(8).expand(4, 8) > 6, best.margins, best.logits)
    assert Seen(best.right, margins.abs(), best.logits).trails(fell_once, 2).all(), "right too often already"


def test_what_stands_is_judged_by_the_defence_and_not_by_what_is_relaxed() -> None:
    firm = Plain(partial(shifted, needed=2 * EPS))
    routes = Routes(firm, {"direct": firm, "relaxed": Plain(partial(shifted, needed=0.01))})
    result = AdaptiveEnsemble("linf", EPS, looks=1)(routes, GREY, DARK, KEYS)
    assert not result.success.any() and (result.telemetry["converged"] == 1).all()


def test_a_target_beyond_a_ridge_of_the_runner_up_is_reached_by_its_own_ascent() -> None:
    """The runner-up's logit rises fastest and stays below the truth; another class, lower here, can win."""

    def logits(images: Tensor) -> Tensor:
        red, green = images.double()[:, 0].flatten(1).mean(1) - 0.5, images.double()[:, 1].flatten(1).mean(1) - 0.5
        ridge = 0.5 + red.clamp(max=0.04) * 10 - 20 * (red - 0.04).relu()
        return torch.stack([torch.ones_like(red), ridge, 12 * green - 0.1 - 5 * red.relu()], 1)

    attack = AdaptiveEnsemble("linf", EPS, looks=1, rounds=1, steps=10)
    few = replace(attack, n_targets=0)
    assert attack(Plain(logits), GREY, DARK, KEYS).success.all()
    assert few(Plain(logits), GREY, DARK, KEYS).success.sum() <= attack(Plain(logits), GREY, DARK, KEYS).success.sum()


Toy = tuple[nn.Module, Tensor, Tensor]


def hard(eps: float, seed: int, toy: Toy, rounds: int, steps: int = 3) -> tuple[Tensor, Tensor]:
    model, images, labels = toy
    attack = AdaptiveEnsemble("linf", eps, steps=steps, rounds=rounds, n_targets=4, looks=1)
    result = attack(Plain(model), images, labels, tuple(range(seed, seed + len(images))))
    return result.success, result.telemetry["converged"].bool()


@settings(max_examples=6, deadline=None)
@given(eps=st.sampled_from([0.02, 0.05, 0.08, 0.12]), seed=st.integers(0, 99))
def test_more_rounds_never_leave_more(eps: float, seed: int, toy: Toy) -> None:
    success = [hard(eps, seed, toy, rounds)[0] for rounds in (1, 2, 3)]
    for fewer, more in pairwise(success):
        assert not (fewer & ~more).any()


@pytest.mark.parametrize("eps", [0.02, 0.05, 0.08, 0.12])
def test_what_converged_falls_to_no_doubled_budget(eps: float, toy: Toy) -> None:
    success, converged = hard(eps, 0, toy, rounds=3)
    doubled, _ = hard(eps, 1000, toy, rounds=1, steps=24)
    assert converged.float().mean() > 0.9 and not (converged & ~success & doubled).any()


def test_one_round_tells_nothing_of_the_curve_and_a_cut_budget_says_so() -> None:
    far = Plain(partial(shifted, needed=0.2))
    result = AdaptiveEnsemble("linf", EPS, looks=1, rounds=1)(far, GREY, DARK, KEYS)
    assert not result.telemetry["converged"].any() and "not converged" in result.notes[0]
    told = AdaptiveEnsemble("linf", EPS, looks=1, rounds=2)(far, GREY, DARK, KEYS)
    assert told.telemetry["converged"].all() and not told.notes
    assert told.telemetry["rounds"].tolist() == [2] * 6


@dataclass
class Slow:
    """Its gradient shows one pixel more at each call, so that every doubling still rises."""

    calls: int = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        flat = images.double().flatten(1)
        live = torch.arange(48) < min(48, self.calls // 2)
        seen = torch.where(live, flat, flat.detach())
        score = 480 * (seen.mean(1) - 0.5 - 0.07)
        return torch.stack([-score / 2, score / 2], dim=1)

    def select(self, index: Tensor) -> "Slow":
        return self


def test_a_curve_that_needs_one_doubling_more_is_not_called_flat() -> None:
    attack = AdaptiveEnsemble("linf", EPS, steps=4, looks=1, n_targets=0)
    told = [replace(attack, rounds=rounds)(Slow(), GREY, DARK, KEYS) for rounds in range(1, 6)]
    fell = next(place for place, result in enumerate(told) if result.success.all())
    assert fell > 1
    for result in told[:fell]:
        assert not result.success.any() and not result.telemetry["converged"].any() and result.notes


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 99), norm=st.sampled_from(["linf", "l2"]), needed=st.sampled_from([0.05, 0.09, 0.2]))
def test_keys_decide_everything_and_the_batch_nothing(seed: int, norm: str, needed: float) -> None:
    eps = EPS if norm == "linf" else EPS * 48**0.5
    attack = AdaptiveEnsemble(norm, eps, steps=4, rounds=2, eot=2, looks=3, n_targets=1)
    keys = tuple(key_of(seed, i) for i in range(6))
    images = GREY + 0.001 * torch.arange(6.0).view(6, 1, 1, 1)
    whole = attack(Patches(keys, needed), images, DARK, keys)
    again = attack(Patches(keys, needed), images, DARK, keys)
    assert torch.equal(whole.images, again.images) and not whole.repaired.any()
    for part in ([0, 1], [4, 2, 3], [5]):
        own = tuple(keys[i] for i in part)
        alone = attack(Patches(own, needed), images[part], DARK[part], own)
        assert torch.equal(alone.images, whole.images[part])
        for name, series in whole.telemetry.items():
            assert torch.equal(alone.telemetry[name], series[part]), name


def test_the_gradient_of_pooled_logits_is_that_of_their_mean() -> None:
    weights = torch.randn(4, 48, 3, generator=torch.Generator().manual_seed(0)).double()

    class Turns:
        turn = 0

        def __call__(self, images: Tensor) -> Tensor:
            self.turn += 1
            return images.double().flatten(1) @ weights[self.turn % 4]

        def select(self, index: Tensor) -> "Turns":
            return self

    inputs = GREY.clone().requires_grad_()
    mean = (inputs.double().flatten(1) @ weights.mean(0)).float()
    (expected,) = torch.autograd.grad(cross_entropy(mean, DARK).sum(), inputs)
    found, values, pooled, _ = pooled_gradient(Turns(), GREY, DARK, cross_entropy, draws=4, pooled=mean.detach())
    assert torch.allclose(found, expected, atol=1e-6) and torch.allclose(pooled, mean, atol=1e-5)
    assert torch.allclose(values, cross_entropy(mean, DARK), atol=1e-5)
    apart, _, _, _ = pooled_gradient(Turns(), GREY, DARK, cross_entropy, draws=4)
    assert not torch.allclose(apart, expected, atol=1e-3)


class Masked(Undefended):
    """Hides its gradient; offers a relaxed one."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward(images.detach(), prompts)

    def surrogate(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.forward(images, prompts)

    def relaxed(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.backbone(images, prompts)


def context(defence: Defence, images: Tensor) -> BatchContext:
    prompts = PromptSet.from_templates(["red", "green", "blue"], ["{}"])
    with torch.no_grad():
        labels = defence(images, prompts).argmax(1)
    asked = protocol("ensemble-adaptive-linf-16-255")
    undefended = Undefended(defence.backbone)
    evaluation = Evaluation(defence, undefended, prompts, asked, 0, {"undefended": undefended})
    return BatchContext(evaluation, images, labels, tuple(range(len(images))))


def test_parts_are_found_by_what_the_class_writes(tiny_backbone: Backbone, images: Tensor) -> None:
    batch = context(Masked(tiny_backbone), images)
    attack = AdaptiveEnsemble("linf", 0.1, steps=5, rounds=1)
    routes = attack._routes(batch, None)
    assert list(routes.ways) == ["direct", "relaxed"] and list(routes.sources) == ["undefended"]
    alone = replace(attack, parts=False)._routes(batch, None)
    assert list(alone.ways) == ["direct"] and not alone.sources and not alone.redirects
    made = attack.attack_batch(batch).result
    assert made is not None and made.success.any()
    without = replace(attack, parts=False).attack_batch(batch).result
    assert without is not None and not without.success.any()


def test_every_pass_is_counted(tiny_backbone: Backbone, images: Tensor) -> None:
    """At eps = 0 nothing falls: an ascent is so many steps, a look at its end; begin, round, end and base look once."""
    batch = context(Undefended(tiny_backbone), images)
    before = replace(tiny_backbone.passes)
    AdaptiveEnsemble("linf", 0.0, steps=3, rounds=1, n_targets=0, parts=False).attack_batch(batch)
    spent, n = tiny_backbone.passes - before, len(images)
    assert (spent.forward, spent.backward) == (n * (1 + 1 + 2 * (3 + 1) + 1 + 1), n * (1 + 2 * 3))


def test_levels_and_schema() -> None:
    assert AdaptiveEnsemble("linf", 0.1).tailored
    assert not AdaptiveEnsemble("linf", 0.1, parts=False, n_targets=0).tailored
    assert AdaptiveEnsemble("linf", 0.1, eot=4, rounds=5).averaged_draws == 16
    asked = protocol("ensemble-adaptive-linf-1-255")
    assert varied(asked, rounds=2).attack.parameters["rounds"] == 2


def test_with_one_class_there_is_nothing_to_reach() -> None:
    victim = Plain(lambda images: images.flatten(1).sum(1, keepdim=True))
    result = AdaptiveEnsemble("linf", EPS, looks=1)(victim, GREY, DARK, KEYS)
    assert not result.success.any() and torch.equal(result.images, GREY)


def test_the_margin_is_what_is_judged() -> None:
    assert margin(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([2])).tolist() == [1.0]
