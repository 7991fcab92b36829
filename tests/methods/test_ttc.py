"""TTC against its sheet: weights, gate, start noise, budget, straight-through gradient."""

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.balls import lp_norm
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.rn.method import RandomNoise
from vlm_gauntlet.methods.ttc.method import TTC

from ..rounding import between

KEYS = tuple(range(6))


def counter(defence: TTC, images: Tensor) -> Tensor:
    defence.draws = Draws(KEYS, 1)
    return defence.counterattack(images) - images


def noise(defence: TTC, images: Tensor) -> Tensor:
    """d_0: the first draw of the same stream."""
    return (images + Draws(KEYS, 1).uniform(images, -defence.eps, defence.eps)).clamp(0, 1) - images


def test_weights_are_the_papers(tiny_backbone: Backbone) -> None:
    """w_i ~ exp(2 i), i = 0..2 (sheet 1.2)."""
    assert TTC(tiny_backbone).weights().tolist() == pytest.approx([0.016, 0.117, 0.867], abs=5e-4)


def test_gate_off_keeps_the_start_noise(tiny_backbone: Backbone, images: Tensor) -> None:
    """Sheet 1.2: images judged clean get x + d_0, not x (issue 1 of the official repository: on purpose)."""
    off = TTC(tiny_backbone, threshold=0.0)
    assert torch.allclose(counter(off, images), noise(off, images), atol=1e-6)
    zero = TTC(tiny_backbone, {"gate_off": "zero"}, threshold=0.0)
    assert torch.equal(counter(zero, images), torch.zeros_like(images))


def test_gate_on_moves_the_feature_further_than_noise(tiny_backbone: Backbone, images: Tensor) -> None:
    on = TTC(tiny_backbone, threshold=1e9)
    anchor = tiny_backbone.encode_image(images)

    def moved(delta: Tensor) -> Tensor:
        return (tiny_backbone.encode_image(images + delta) - anchor).norm(dim=1)

    assert (moved(counter(on, images)) > moved(noise(on, images))).all()


def test_gate_is_per_sample(tiny_backbone: Backbone, images: Tensor) -> None:
    """The threshold lies in the widest gap between two drifts: rounding moves none of them across it."""
    anchor = tiny_backbone.encode_image(images)
    d0 = noise(TTC(tiny_backbone), images)
    tau = (tiny_backbone.encode_image(images + d0) - anchor).norm(dim=1) / anchor.norm(dim=1)
    middle = between(tau)
    delta = counter(TTC(tiny_backbone, threshold=middle), images)
    kept_noise = torch.isclose(delta, d0, atol=1e-6).flatten(1).all(1)
    assert kept_noise.tolist() == (tau >= middle).tolist()


class HalfAway(Backbone):
    """A gate's tower whose drift is one half to the bit: features (1, 0) for the clean images, (1.5, 0) for others."""

    def __init__(self, clean: Tensor) -> None:
        torch.nn.Module.__init__(self)
        self.clean = clean

    def encode_image(self, images: Tensor) -> Tensor:
        return torch.tensor([1.0 if torch.equal(images, self.clean) else 1.5, 0.0]).expand(len(images), 2)


@pytest.mark.parametrize(("threshold", "attacked"), [(0.5, False), (0.5 + 2**-20, True)])
def test_a_drift_equal_to_the_threshold_falls_on_noise(
    threshold: float, attacked: bool, tiny_backbone: Backbone, images: Tensor
) -> None:
    """Sheet 1.2: only a drift below it is counterattacked."""
    defence = TTC(tiny_backbone, threshold=threshold, gate_backbone=HalfAway(images))
    delta, d0 = counter(defence, images), noise(defence, images)
    assert torch.allclose(delta, d0, atol=1e-6) != attacked


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_budget_and_box(norm: str, tiny_backbone: Backbone, images: Tensor) -> None:
    defence = TTC(tiny_backbone, threshold=1e9, norm=norm, eps=4 / 255, steps=5)
    edges = torch.cat([images[:4], torch.zeros_like(images[:1]), torch.ones_like(images[:1])])
    delta = counter(defence, edges)
    assert (lp_norm(delta, norm) <= 4 / 255 + 1e-6).all()
    assert (edges + delta).min() >= 0 and (edges + delta).max() <= 1


def test_without_steps_it_is_random_noise(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Sheet 1.2: ttc_numsteps = 0 is the RN baseline."""
    draws = [Draws(KEYS, 7), Draws(KEYS, 7)]
    ttc, rn = TTC(tiny_backbone, steps=0), RandomNoise(tiny_backbone)
    assert torch.allclose(ttc(images, prompts, draws=draws[0]), rn(images, prompts, draws=draws[1]), atol=1e-5)


def test_original_tower_measures_the_drift_of_a_tuned_victim(tiny_backbone: Backbone, images: Tensor) -> None:
    tuned = tiny_backbone.tuned({n: 0.3 * torch.ones_like(p) for n, p in tiny_backbone.clip.visual.named_parameters()})
    own = TTC(tuned)
    other = TTC(tuned, gate_backbone=tiny_backbone)
    start = noise(own, images)
    noisy, still = tuned.encode_image(images + start), tuned.encode_image(images)
    taus = [d._drift(images, start, noisy, still) for d in (own, other)]
    plain = tiny_backbone.encode_image(images)
    expected = (tiny_backbone.encode_image(images + start) - plain).norm(dim=1) / plain.norm(dim=1)
    assert not torch.allclose(*taus) and torch.allclose(taus[1], expected, atol=1e-6)


def test_surrogate_is_the_gradient_at_the_counterattacked_image(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    defence, inputs = TTC(tiny_backbone, threshold=1e9), images.clone().requires_grad_()
    (through,) = torch.autograd.grad(
        defence(inputs, prompts, draws=Draws(KEYS, 1), gradient="straight-through").sum(), inputs
    )
    there = (images + counter(defence, images)).requires_grad_()
    (expected,) = torch.autograd.grad(tiny_backbone(there, prompts).sum(), there)
    assert torch.allclose(through, expected, atol=1e-4)


def test_autocast_changes_the_bits(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    full, half = (TTC(tiny_backbone, {"precision": p})(images, prompts) for p in ("fp32", "autocast"))
    assert not torch.equal(full, half) and torch.allclose(full, half, atol=0.5)
