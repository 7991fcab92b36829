"""CLIPure-Cos: what its map does, as the paper intends and as released (sheet 4.2 and 4.3)."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.adaptive.eot import input_gradient
from vlm_gauntlet.attacks.losses import cross_entropy
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.clipure_cos.method import CLIPureCos, cosine_gradient, released_gradient, unless_zero
from vlm_gauntlet.methods.victims import BoundDefence

RELEASED = {"step": "as_coded", "norm": "batch"}
D = 768


def at_cosine(n: int, cosine: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """n unit vectors [n, D] at this cosine to a unit target [D], in double precision."""
    generator = torch.Generator().manual_seed(seed)
    target = F.normalize(torch.randn(D, generator=generator, dtype=torch.float64), dim=0)
    raw = torch.randn(n, D, generator=generator, dtype=torch.float64)
    aside = F.normalize(raw - (raw @ target)[:, None] * target, dim=1)
    return cosine * target + math.sqrt(1 - cosine**2) * aside, target


def make(backbone: Backbone, target: Tensor, deviations: dict[str, str] | None = None, **kwargs: object) -> CLIPureCos:
    defence = CLIPureCos(backbone, deviations, **kwargs)
    defence.null_prompt = lambda: target  # type: ignore[method-assign]
    return defence


def test_closed_form_is_the_autograd_gradient() -> None:
    features, target = at_cosine(4, 0.2)
    assert torch.allclose(cosine_gradient(features, target), released_gradient(features, target), atol=1e-6)


def test_the_unrolled_route_restores_the_released_gradient(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    released = CLIPureCos(tiny_backbone, {d.name: d.as_coded for d in CLIPureCos.card.deviations})
    norms = {}
    for route in ("direct", "unrolled"):
        inputs = images[:2].clone().requires_grad_()
        logits = released(inputs, prompts, gradient=route)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(logits[:, 0].sum(), inputs)
        norms[route] = float(gradient.norm())
    assert norms["direct"] == 0 < norms["unrolled"]


@pytest.mark.parametrize(("factor", "alive"), [(0.0, 0), (1.0, 2)])
def test_a_gradient_of_zeros_ends_before_the_tower(
    factor: float, alive: int, tiny_backbone: Backbone, images: Tensor
) -> None:
    """One of a batch that lives takes the others with it."""
    inputs, before = images[:2].clone().requires_grad_(), tiny_backbone.passes.backward
    features = unless_zero(tiny_backbone.encode_image(inputs), inputs)
    (gradient,) = torch.autograd.grad((features[0] * factor).sum(), inputs)
    assert tiny_backbone.passes.backward - before == alive
    plain = images[:2].clone().requires_grad_()
    (expected,) = torch.autograd.grad((tiny_backbone.encode_image(plain)[0] * factor).sum(), plain)
    assert torch.equal(gradient, expected) and bool(gradient.any()) == bool(factor)


def test_the_released_gradient_of_zeros_costs_no_pass(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    released = CLIPureCos(tiny_backbone, {d.name: d.as_coded for d in CLIPureCos.card.deviations})
    victim, labels = BoundDefence(released, prompts, (1, 2)), torch.tensor([0, 1])
    before = tiny_backbone.passes.backward
    gradient, _, _ = input_gradient(victim, images[:2], labels, cross_entropy)
    assert gradient.shape == images[:2].shape and not gradient.any()
    assert tiny_backbone.passes.backward == before


@pytest.mark.parametrize("deviations", [{}, RELEASED])
def test_purified_stays_in_the_span(deviations: dict[str, str], tiny_backbone: Backbone) -> None:
    features, target = at_cosine(4, 0.2)
    purified = make(tiny_backbone, target, deviations).purify(features)
    for z, k in zip(features, purified, strict=True):
        plane = torch.linalg.qr(torch.stack([z, target], 1)).Q
        assert torch.allclose(plane @ (plane.T @ k), k, atol=1e-9)


def test_parity_of_the_released_steps(tiny_backbone: Backbone) -> None:
    """Even: back at the start. Odd: 88.09 - 78.46 = 9.6 degrees beyond t (sheet 4.3: 'about 10')."""
    features, target = at_cosine(1, 0.2)
    even, odd = (make(tiny_backbone, target, RELEASED, iterations=i).purify(features) for i in (10, 11))
    assert (even @ features.T).item() > 0.9999
    assert (odd @ target).item() == pytest.approx(0.986, abs=0.002)
    assert (odd @ features.T).item() == pytest.approx(0.033, abs=0.005)
    beyond = odd - (odd @ target)[:, None] * target
    assert (beyond @ features.T).item() < 0, "the image's own evidence changes sign"


@pytest.mark.parametrize(("cosine", "returned"), [(-0.3, -0.9978), (0.03, -0.9978), (0.036, 1.0), (0.5, 1.0)])
def test_even_steps_turn_an_image_far_from_the_null_prompt_around(
    cosine: float, returned: float, tiny_backbone: Backbone
) -> None:
    """Below cos(z0, t) = cos(88.09 deg) = 0.033 both turns go the same way: 2 * 88.09 = 176.2 degrees in all."""
    features, target = at_cosine(1, cosine)
    purified = make(tiny_backbone, target, RELEASED).purify(features)
    assert (purified @ features.T).item() == pytest.approx(returned, abs=2e-4)


@pytest.mark.parametrize(("batch", "degrees"), [(1, 88.09), (2, 87.3), (128, 69.3)])
def test_first_rotation_depends_on_the_batch(batch: int, degrees: float, tiny_backbone: Backbone) -> None:
    """arctan(30 / sqrt(B)) for equal angles (sheet 4.2)."""
    features, target = at_cosine(batch, 0.2)
    turned = make(tiny_backbone, target, RELEASED, iterations=1).purify(features)
    angles = torch.rad2deg(torch.acos((turned * features).sum(1)))
    assert angles.tolist() == pytest.approx([degrees] * batch, abs=0.2)


def test_only_the_batch_norm_couples_samples(tiny_backbone: Backbone) -> None:
    features, target = at_cosine(32, 0.2)
    for norm, coupled in (("per-sample", False), ("batch", True)):
        defence = make(tiny_backbone, target, {"norm": norm}, step=1.0)
        alone = torch.cat([defence.purify(f[None]) for f in features])
        assert torch.allclose(defence.purify(features), alone, atol=1e-6) != coupled
        assert defence.batch_coupled == coupled


def test_small_steps_climb(tiny_backbone: Backbone) -> None:
    """Step 0.1: cos(z, t) rises 0.2 -> 0.9 and more in ten steps (sheet 4.3)."""
    features, target = at_cosine(1, 0.2)
    cosines = [(make(tiny_backbone, target, iterations=i).purify(features) @ target).item() for i in range(11)]
    assert cosines == sorted(cosines) and cosines[-1] > 0.9


def test_released_gradient_is_dead_and_second_order_restores_it(tiny_backbone: Backbone) -> None:
    features, target = at_cosine(2, 0.2)
    direction = torch.randn(2, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def passed(graph: str) -> float:
        leaf = features.clone().requires_grad_()
        purified = make(tiny_backbone, target, {**RELEASED, "graph": graph}).purify(leaf)
        (gradient,) = torch.autograd.grad((purified * direction).sum(), leaf)
        return float(gradient.norm() / direction.norm())

    assert passed("first-order") < 1e-6
    assert passed("second-order") == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("precision", "dead"), [("half", True), ("fp32", False)])
def test_released_image_gradient_underflows_to_zero_in_half_precision(
    precision: str, dead: bool, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Sheet 4.3: about 1e-14 of plain CLIP's at B = 2, and exactly zero after the cast to fp16."""
    released = {**RELEASED, "graph": "first-order", "null_prompt": "ensemble", "precision": precision}
    inputs = images[:2].clone().requires_grad_()
    loss = F.cross_entropy(CLIPureCos(tiny_backbone, released)(inputs, prompts), torch.tensor([0, 1]), reduction="sum")
    (gradient,) = torch.autograd.grad(loss, inputs)
    assert bool((gradient == 0).all()) == dead


def test_null_prompt_and_precision_switches(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    base = CLIPureCos(tiny_backbone)
    assert not torch.allclose(base.null_prompt(), CLIPureCos(tiny_backbone, {"null_prompt": "ensemble"}).null_prompt())
    half = CLIPureCos(tiny_backbone, {"precision": "half"})
    assert not torch.equal(base(images, prompts), half(images, prompts))
