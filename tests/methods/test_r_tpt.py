"""R-TPT against its sheet: reliability, weights, the vote, the switches, what an attacker differentiates."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.learned_prompts import CONTEXT
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.prompt_tuning import mean_entropy, tuned_text_features, view_logits
from vlm_gauntlet.methods.r_tpt.method import RTPT
from vlm_gauntlet.methods.views import draw_views, view_features

KEYS = tuple(range(6))


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def features_of(backbone: Backbone, images: Tensor) -> Tensor:
    return view_features(backbone, images, draw_views(images, Draws(KEYS, 1)))


def gradient(defence: RTPT, images: Tensor, prompts: PromptSet, route: str = "straight-through") -> Tensor:
    inputs = images.clone().requires_grad_()
    logits = defence(inputs, prompts, draws=Draws(KEYS, 1), gradient=route)
    return torch.autograd.grad(logits[:, 0].sum(), inputs)[0]


def test_reliability_is_the_mean_cosine_to_the_twenty_nearest_other_views(tiny_backbone: Backbone) -> None:
    features = unit(2, 64, 8)
    measured = RTPT(tiny_backbone).reliability(features)
    for b in range(2):
        for i in range(64):
            cosines = sorted((float(features[b, i] @ features[b, j]) for j in range(64) if j != i), reverse=True)
            assert float(measured[b, i]) == pytest.approx(sum(cosines[:20]) / 20, abs=1e-5)


def test_weights_sum_to_one_and_move_with_their_views(tiny_backbone: Backbone) -> None:
    defence, features = RTPT(tiny_backbone), unit(3, 64, 8)
    weights, order = defence.log_weights(features).exp(), torch.randperm(64)
    assert torch.allclose(weights.sum(1), torch.ones(3), atol=1e-5)
    assert torch.allclose(defence.log_weights(features[:, order]).exp(), weights[:, order], atol=1e-4)


def test_a_stray_view_counts_for_little(tiny_backbone: Backbone) -> None:
    crowd = F.normalize(unit(1, 1, 8) + 0.1 * unit(1, 64, 8, seed=1), dim=-1)
    crowd[0, 7] *= -1
    assert RTPT(tiny_backbone).log_weights(crowd)[0].argmin() == 7


def test_the_coded_mask_leaves_a_view_among_its_own_neighbours(tiny_backbone: Backbone) -> None:
    """Sheet 5, trap d: float32 self-products just below one stay in, and only those views gain."""
    features = unit(4, 64, 512)
    exact, coded = (RTPT(tiny_backbone, {"mask": m}).reliability(features) for m in ("diagonal", "ge1"))
    below = (features @ features.mT).diagonal(dim1=1, dim2=2) < 1
    assert 0 < below.float().mean() < 1
    assert (coded > exact + 0.01)[below].all()
    assert torch.allclose(coded[~below], exact[~below], atol=1e-6)


def test_without_a_step_it_is_the_weighted_vote_with_the_words(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    still = RTPT(tiny_backbone, lr=0.0)
    features = features_of(tiny_backbone, images)
    words = PromptSet.from_templates(prompts.class_names, [CONTEXT + " {}."])
    logits = tiny_backbone.logit_scale * features @ tiny_backbone.text_features(words).T
    weights = torch.softmax(still.reliability(features) / 0.01, dim=1)
    expected = torch.stack([sum(w * z for w, z in zip(*row, strict=True)) for row in zip(weights, logits, strict=True)])
    value = still(images, prompts, draws=Draws(KEYS, 1))
    assert torch.allclose(value, expected, atol=1e-3)
    assert not torch.allclose(RTPT(tiny_backbone)(images, prompts, draws=Draws(KEYS, 1)), value, atol=1e-2)


def test_all_views_vote_with_the_tuned_prompt(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    features = features_of(tiny_backbone, images)
    text = tuned_text_features(tiny_backbone, prompts, features, mean_entropy, share=0.1, lr=5e-3)
    logits = view_logits(tiny_backbone, features, text)
    for average in ("logits", "probabilities"):
        defence = RTPT(tiny_backbone, {"average": average})
        weights = defence.log_weights(features).exp()[..., None]
        value = defence(images, prompts, draws=Draws(KEYS, 1))
        if average == "logits":
            assert torch.allclose(value, (weights * logits).sum(1), atol=1e-3)
        else:
            assert torch.allclose(value.exp(), (weights * logits.softmax(-1)).sum(1), atol=1e-4)


def test_a_batch_is_its_images_one_by_one(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = RTPT(tiny_backbone)
    whole = defence(images, prompts, draws=Draws(KEYS, 1))
    alone = [defence(images[i : i + 1], prompts, draws=Draws((i,), 1)) for i in reversed(KEYS)]
    assert torch.allclose(whole, torch.cat(alone[::-1]), atol=1e-3)


def test_truncation_moves_attacked_images_only(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """A picture from a file keeps its bits; a value between two levels goes to the lower one."""
    plain, cut = (RTPT(tiny_backbone, {"quantise": q}) for q in ("none", "trunc"))
    levels = (images * 255).round() / 255
    kept, same = (d(levels, prompts, draws=Draws(KEYS, 1)) for d in (plain, cut))
    assert torch.equal(kept, same)
    between = (levels + 0.7 / 255).clamp(0, 1)
    lower = plain((between * 255).floor() / 255, prompts, draws=Draws(KEYS, 1))
    assert torch.equal(cut(between, prompts, draws=Draws(KEYS, 1)), lower)
    assert gradient(cut, between, prompts).abs().sum() > 0


def test_more_views_to_differentiate_change_the_gradient_alone(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    few, all_of_them = RTPT(tiny_backbone, attack_views=9), RTPT(tiny_backbone)
    assert not torch.allclose(gradient(few, images, prompts), gradient(all_of_them, images, prompts))
    inputs = images.clone().requires_grad_()
    values = [d(inputs, prompts, draws=Draws(KEYS, 1)) for d in (few, all_of_them)]
    assert torch.equal(*values)


def test_with_all_views_the_gradient_is_that_of_the_vote(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Through features and weights, with the tuned prompt as a constant: built here from the plain parts."""
    defence, inputs = RTPT(tiny_backbone), images.clone().requires_grad_()
    rendered = draw_views(inputs, Draws(KEYS, 1)).render(inputs, 16)
    features = F.normalize(tiny_backbone.encode_image(rendered.flatten(0, 1)), dim=-1).view(6, 64, -1)
    text = tuned_text_features(tiny_backbone, prompts, features, mean_entropy, share=0.1, lr=5e-3)
    logits = view_logits(tiny_backbone, features, text)
    vote = (torch.softmax(defence.reliability(features) / 0.01, 1)[..., None] * logits).sum(1)
    (expected,) = torch.autograd.grad(vote[:, 0].sum(), inputs)
    measured = gradient(defence, images, prompts)
    assert torch.allclose(measured, expected, atol=1e-3 * float(expected.abs().max()))


def test_unrolling_adds_the_gradient_of_the_step(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = RTPT(tiny_backbone)
    through, unrolled = (gradient(defence, images, prompts, r) for r in ("straight-through", "unrolled"))
    assert torch.isfinite(unrolled).all() and not torch.allclose(through, unrolled, rtol=1e-2)
    still = RTPT(tiny_backbone, lr=0.0)
    through, unrolled = (gradient(still, images, prompts, r) for r in ("straight-through", "unrolled"))
    assert torch.allclose(through, unrolled, atol=1e-4)


def test_the_sample_before_leaves_no_trace(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    before = {n: p.clone() for n, p in tiny_backbone.named_parameters()}
    hooks = [len(m._forward_hooks) for m in tiny_backbone.modules()]
    defence = RTPT(tiny_backbone)
    first = defence(images, prompts, draws=Draws(KEYS))
    gradient(defence, 1 - images, prompts, "unrolled")
    assert torch.equal(defence(images, prompts, draws=Draws(KEYS)), first)
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in tiny_backbone.named_parameters())
    assert [len(m._forward_hooks) for m in tiny_backbone.modules()] == hooks


def test_fewer_views_cost_less(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    for count in ("16", "32"):
        before = tiny_backbone.passes.forward
        RTPT(tiny_backbone, {"views": count})(images, prompts)
        assert tiny_backbone.passes.forward - before == 6 * int(count)
