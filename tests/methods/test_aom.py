"""AOM against its formula: f = (1 - alpha) f_s + alpha mean_k unit(enc(x + sigma g_k))."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.aom.method import AOM

KEYS = tuple(range(6))


def by_the_formula(backbone: Backbone, images: Tensor, prompts: PromptSet, *, sigma: float, alpha: float) -> Tensor:
    noise = sigma * Draws(KEYS, 1).normal(images[:, None].expand(-1, 5, -1, -1, -1))
    start = F.normalize(backbone.encode_image(images), dim=-1)
    anchor = sum(F.normalize(backbone.encode_image(images + noise[:, k]), dim=-1) for k in range(5)) / 5
    return backbone.classify((1 - alpha) * start + alpha * anchor, prompts)


def test_batched_equals_the_loop_over_copies(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Normalised space: sigma 0.1 is 0.05 in pixels where std is 0.5."""
    for space, sigma in (("normalised", 0.05), ("pixel", 0.1)):
        logits = AOM(tiny_backbone, {"noise_space": space})(images, prompts, draws=Draws(KEYS, 1))
        assert torch.allclose(logits, by_the_formula(tiny_backbone, images, prompts, sigma=sigma, alpha=1.5), atol=1e-4)


def test_branches_are_the_two_ends_with_the_signs_of_the_move(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    (less, start), (more, anchor) = AOM(tiny_backbone).branch_logits_on(images, prompts, Draws(KEYS, 1))
    assert (less, more) == (-0.5, 1.5)
    assert torch.allclose(start, tiny_backbone(images, prompts), atol=1e-4)
    noise = 0.05 * Draws(KEYS, 1).normal(images[:, None].expand(-1, 5, -1, -1, -1))
    copies = [F.normalize(tiny_backbone.encode_image(images + noise[:, k]), dim=-1) for k in range(5)]
    assert torch.allclose(anchor, tiny_backbone.classify(torch.stack(copies).mean(0), prompts), atol=1e-4)


def test_limits_are_the_undefended_model(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    undefended = tiny_backbone(images, prompts)
    assert torch.allclose(AOM(tiny_backbone, alpha=0.0)(images, prompts), undefended, atol=1e-4)
    assert torch.allclose(AOM(tiny_backbone, sigma=0.0)(images, prompts), undefended, atol=1e-4)


def test_anchor_switch(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    raw, unit = (AOM(tiny_backbone, {"anchor": a}, sigma=2.0)(images, prompts) for a in ("raw", "renormalised"))
    assert not torch.allclose(raw, unit)


def test_gradient_passes_through_every_copy(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    inputs = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(AOM(tiny_backbone)(inputs, prompts).sum(), inputs)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
