"""The general parts of adaptive attacks: soft signs, second-order gradients, gates, branches, fixed draws."""

from dataclasses import dataclass

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.branches import branch_attack
from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.adaptive.evasion import MARGIN, evade
from vlm_gauntlet.attacks.adaptive.unrolling import gradient_at, soft_sign
from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.rn.method import RandomNoise
from vlm_gauntlet.methods.ttc.method import TTC
from vlm_gauntlet.methods.victims import BoundDefence

from ..rounding import between

KEYS = tuple(range(6))


@given(st.integers(0, 1000))
def test_a_soft_sign_is_the_sign_and_has_a_slope(seed: int) -> None:
    values = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)).requires_grad_()
    soft = soft_sign(values * 1.0)
    assert torch.allclose(soft, values.sign(), atol=1e-6)
    (slope,) = torch.autograd.grad(soft.sum(), values)
    assert (slope > 0).all()
    assert torch.equal(soft_sign(values.detach()), values.detach().sign())


def test_an_unrolled_gradient_knows_how_the_inner_step_moves() -> None:
    """Inner objective x^3, inner step x + grad = x + 3 x^2: outer derivative 1 + 6 x, without unrolling 1."""
    x = torch.tensor([[2.0]], requires_grad=True)
    for unroll, expected in ((True, 13.0), (False, 1.0)):
        moved = x + gradient_at(lambda p: (p**3).sum(), x, unroll=unroll)
        (slope,) = torch.autograd.grad(moved.sum(), x)
        assert float(slope) == expected


def test_attention_can_be_differentiated_twice(tiny_backbone: Backbone, images: Tensor) -> None:
    inputs = images.requires_grad_()
    first = gradient_at(lambda x: tiny_backbone.encode_image(x).square().sum(), inputs, unroll=True)
    (second,) = torch.autograd.grad(first.square().sum(), inputs)
    assert torch.isfinite(second).all() and second.abs().max() > 0


@dataclass
class Guard:
    """Answers class 1 (wrong) for bright images, but a gate on bright ones turns the answer back to class 0."""

    threshold: float = 0.2

    def gate_margin(self, images: Tensor) -> Tensor:
        return self.threshold - images[:, 1].flatten(1).mean(1)  # acts where the green channel is dark

    def __call__(self, images: Tensor) -> Tensor:
        bright = images[:, 0].flatten(1).mean(1) - 0.5
        logits = torch.stack([-bright, bright], dim=1)
        return torch.where((self.gate_margin(images) > 0)[:, None], torch.tensor([1.0, 0.0]), logits)

    def select(self, index: Tensor) -> "Guard":
        return self


def test_only_evasion_walks_past_a_gate() -> None:
    """Red decides the class, green the gate; behind the closed gate no gradient of the logits is left."""
    images, labels = torch.full((4, 3, 4, 4), 0.45), torch.zeros(4, dtype=torch.long)
    images[:, 1] = 0.15
    plain = PGD("linf", 0.2, steps=20, random_start=False)(Guard(), images, labels, KEYS[:4])
    evading = PGD("linf", 0.2, steps=20, random_start=False, evasion=1.0)(Guard(), images, labels, KEYS[:4])
    assert not plain.success.any()
    assert evading.success.all()


def test_far_outside_the_gate_nothing_is_evaded() -> None:
    images = torch.full((2, 3, 4, 4), 0.2 + 2 * MARGIN)
    gradient = torch.ones_like(images)
    away = evade(Guard(), images, gradient, 1.0)
    assert torch.allclose(away * gradient.abs().flatten(1).sum(1)[0], gradient)


@dataclass
class Subtraction:
    """Twice a branch that red moves, less one that green moves; rounded, so that the mixture has no gradient."""

    def branch_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        red, green = (images[:, c].flatten(1).mean(1) - 0.5 for c in (0, 1))
        return [(2.0, torch.stack([-red, red], 1)), (-1.0, torch.stack([-green, green], 1))]

    def __call__(self, images: Tensor) -> Tensor:
        (more, red), (less, green) = self.branch_logits(images)
        return (4 * (more * red + less * green)).round()

    def select(self, index: Tensor) -> "Subtraction":
        return self


def test_each_branch_is_spoilt_by_the_sign_of_its_share() -> None:
    """Red goes up and green goes down, though the mixture itself shows no way."""
    images, labels = torch.full((4, 3, 4, 4), 0.4), torch.zeros(4, dtype=torch.long)
    plain = PGD("linf", 0.3, steps=20, random_start=False)(Subtraction(), images, labels, KEYS[:4])
    spoilt = PGD("linf", 0.3, steps=20, random_start=False, branches=1.0)(Subtraction(), images, labels, KEYS[:4])
    assert not plain.success.any() and torch.equal(plain.images, images)
    assert spoilt.success.all()
    assert torch.allclose(spoilt.images[:, :2].mean((0, 2, 3)), torch.tensor([0.7, 0.1]))


def test_branches_are_spoilt_over_all_draws() -> None:
    """The first draw speaks of red and the second of green: both are pushed."""
    channels = [0, 1]

    class Changing(Subtraction):
        def branch_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
            score = images[:, channels.pop(0)].flatten(1).mean(1)
            return [(1.0, torch.stack([-score, score], 1))]

    images = torch.full((2, 3, 4, 4), 0.4)
    push = branch_attack(Changing(), images, torch.zeros(2, dtype=torch.long), torch.zeros_like(images), 1.0, draws=2)
    assert (push[:, :2] > 0).all() and not push[:, 2].any()


def test_ttcs_alarm_says_which_images_it_counterattacks(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    always = TTC(tiny_backbone)
    drift = always.threshold - always.gate_margin_on(images, prompts, Draws(KEYS, 1))
    defence = TTC(tiny_backbone, {"gate_off": "zero"}, threshold=between(drift))
    margin = defence.gate_margin_on(images, prompts, Draws(KEYS, 1))
    defence.draws = Draws(KEYS, 1)
    moved = (defence.counterattack(images) - images).abs().flatten(1).amax(1) > 0
    assert torch.equal(margin > 0, moved)
    assert 0 < int(moved.sum()) < len(images)
    assert TTC.offers("gate_margin") and not RandomNoise.offers("gate_margin")


def test_a_gradient_over_draws_is_their_mean() -> None:
    """Of draws that all say the same it is the gradient of one: the indicators compare its size with other victims'."""
    images, labels = torch.full((3, 3, 2, 2), 0.5), torch.tensor([0, 1, 0])
    factors: list[float] = []

    def victim(x: Tensor) -> Tensor:
        return factors.pop(0) * torch.stack([x[:, 0].sum((1, 2)), x[:, 1].sum((1, 2))], 1)

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return logits.sum(1)

    for drawn, mean in (([2.0], 2.0), ([2.0] * 4, 2.0), ([1.0, 2.0, 6.0], 3.0)):
        factors[:] = drawn
        gradient, value, _ = input_gradient(Plain(victim), images, labels, loss, draws=len(drawn))
        assert torch.allclose(gradient[:, :2], torch.full((3, 2, 2, 2), mean)) and not gradient[:, 2].any()
        assert torch.allclose(value, torch.full((3,), mean * 4.0)), "two channels of four pixels at one half"


def test_wrong_in_every_draw_is_broken_and_wrong_in_one_is_not() -> None:
    images, labels = torch.full((3, 3, 2, 2), 0.5), torch.zeros(3, dtype=torch.long)
    kept = [torch.tensor([1, 1, 0]), torch.tensor([1, 0, 1])]

    def victim(x: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(kept.pop(0), 2).float() + 0 * x.flatten(1).sum(1, keepdim=True)

    _, _, wrong = input_gradient(Plain(victim), images, labels, cross_entropy, draws=2)
    assert wrong.tolist() == [True, False, False]


def test_fixed_draws_repeat_and_fresh_ones_do_not(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    for period, same in ((2, True), (0, False)):
        victim = BoundDefence(RandomNoise(tiny_backbone), prompts, KEYS, period=period)
        first, second, third = (victim(images) for _ in range(3))
        assert not torch.equal(first, second)
        assert torch.equal(first, third) == same
