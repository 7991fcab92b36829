"""HD against its formula: sign ascent on the cross-entropy summed over all classes, inside an L-inf ball."""

import torch
from torch import Tensor

from vlm_gauntlet.attacks.balls import project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.hd.method import HedgeDefense

KEYS = tuple(range(6))


def hedged(defence: HedgeDefense, images: Tensor, prompts: PromptSet, call: int = 1) -> Tensor:
    defence.draws = Draws(KEYS, call)
    return defence.hedged(images, prompts)


def test_one_step_by_hand(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    noise = Draws(KEYS, 1).uniform(images, -8 / 255, 8 / 255)
    start = project(images + noise, images, norm="linf", eps=8 / 255).requires_grad_()
    probabilities = tiny_backbone(start, prompts).softmax(1)
    (gradient,) = torch.autograd.grad(-probabilities.log().sum(), start)
    by_hand = project(start.detach() + 4 / 255 * gradient.sign(), images, norm="linf", eps=8 / 255)
    assert torch.allclose(hedged(HedgeDefense(tiny_backbone, steps=1), images, prompts), by_hand, atol=1e-6)


def test_the_start_is_clipped_or_as_coded_free(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """At a black and a white pixel half of the noise leaves [0,1]; after one step both starts are back in the box."""
    edges, noise = images.round(), Draws(KEYS, 1).uniform(images, -8 / 255, 8 / 255)
    seen, moved = [], []
    for choice in ("box", "free"):
        defence = HedgeDefense(tiny_backbone, {"start": choice}, steps=0)
        seen.append(hedged(defence, edges, prompts))
        moved.append(hedged(HedgeDefense(tiny_backbone, {"start": choice}, steps=1), edges, prompts))
    assert torch.equal(seen[1], edges + noise) and torch.allclose(seen[0], (edges + noise).clamp(0, 1), atol=1e-6)
    outside = (seen[1] < 0) | (seen[1] > 1)
    assert 0.4 < outside.float().mean() < 0.6 and (seen[0] - seen[1])[~outside].abs().max() < 1e-6
    assert all(end.min() >= 0 and end.max() <= 1 for end in moved)


def test_it_stays_in_its_ball_and_its_box(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    edges = images.round()
    moved = hedged(HedgeDefense(tiny_backbone), edges, prompts)
    assert (moved - edges).abs().max() <= 8 / 255 + 1e-6
    assert moved.min() >= 0 and moved.max() <= 1


def test_it_raises_the_sum_over_classes(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    def total(at: Tensor) -> float:
        return float(-tiny_backbone(at, prompts).log_softmax(1).sum())

    assert total(hedged(HedgeDefense(tiny_backbone), images, prompts)) > total(images)


def test_each_call_starts_elsewhere(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = HedgeDefense(tiny_backbone, steps=1)
    first, again, other = (hedged(defence, images, prompts, call) for call in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_the_attackers_gradient_is_the_backbones_at_a_random_start(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """And not at the end of the hedge, where the direct graph takes it."""
    defence, inputs = HedgeDefense(tiny_backbone), images.clone().requires_grad_()
    logits = defence(inputs, prompts, draws=Draws(KEYS), gradient="straight-through")
    assert torch.allclose(logits, defence(images, prompts, draws=Draws(KEYS)), atol=1e-5)
    (found,) = torch.autograd.grad(logits[:, 0].sum(), inputs)
    draws = Draws(KEYS)
    draws.uniform(images, -1, 1)  # the answer's own
    noise = draws.uniform(images, -8 / 255, 8 / 255)
    start = project(images + noise, images, norm="linf", eps=8 / 255).requires_grad_()
    (by_hand,) = torch.autograd.grad(tiny_backbone(start, prompts)[:, 0].sum(), start)
    assert torch.allclose(found, by_hand, rtol=1e-3, atol=1e-6)
    (direct,) = torch.autograd.grad(defence(inputs, prompts, draws=Draws(KEYS))[:, 0].sum(), inputs)
    assert not torch.allclose(direct, by_hand, rtol=1e-3, atol=1e-6)
