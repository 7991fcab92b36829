"""TPT against its sheet: the AdamW step, the marginal entropy, the answer on the image alone, no trace."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.learned_prompts import CONTEXT, prompted_text_features, word_vectors
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods import prompt_tuning
from vlm_gauntlet.methods.prompt_tuning import (
    first_adamw_step,
    marginal_entropy,
    mean_entropy,
    tuned_text_features,
    view_logits,
)
from vlm_gauntlet.methods.tpt.method import TPT
from vlm_gauntlet.methods.views import draw_views, entropy, view_features

KEYS = tuple(range(6))


def features_of(backbone: Backbone, images: Tensor) -> Tensor:
    return view_features(backbone, images, draw_views(images, Draws(KEYS, 1)))


def words(prompts: PromptSet) -> PromptSet:
    return PromptSet.from_templates(prompts.class_names, [CONTEXT + " {}."])


def test_the_step_is_adamws_first() -> None:
    start, gradient = torch.randn(3, 4, 8), torch.randn(3, 4, 8) * 1e-4
    parameter = start.clone().requires_grad_()
    optimiser = torch.optim.AdamW([parameter], lr=5e-3)
    parameter.grad = gradient.clone()
    optimiser.step()
    assert torch.allclose(first_adamw_step(start, gradient, lr=5e-3), parameter, atol=1e-6)
    assert torch.allclose(first_adamw_step(start, gradient, lr=5e-3, smooth=True), parameter, atol=1e-6)


@pytest.mark.parametrize("loss", [mean_entropy, marginal_entropy])
def test_the_tuned_prompt_is_that_of_the_loop_one_image_at_a_time(
    loss: Callable[[Tensor], Tensor], tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Selection, loss and torch's own optimiser, as the papers write them, for one image."""
    features = features_of(tiny_backbone, images)
    tuned = tuned_text_features(tiny_backbone, prompts, features, loss, share=0.1, lr=5e-3)
    for b in range(6):
        context = word_vectors(tiny_backbone)[None].clone().requires_grad_()
        optimiser = torch.optim.AdamW([context], lr=5e-3)
        logits = tiny_backbone.logit_scale * features[b] @ prompted_text_features(tiny_backbone, prompts, context)[0].T
        chances = logits.softmax(-1)
        uncertain = -(chances * chances.log()).sum(-1)
        kept = chances[uncertain.argsort()[:6]]
        mean = kept.mean(0)
        value = -(kept * kept.log()).sum(-1).mean() if loss is mean_entropy else -(mean * mean.log()).sum()
        (context.grad,) = torch.autograd.grad(value, context)
        optimiser.step()
        assert torch.allclose(tuned[b], prompted_text_features(tiny_backbone, prompts, context)[0], atol=1e-4)


def test_the_step_lowers_the_loss(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    features = features_of(tiny_backbone, images)
    losses = []
    for lr in (0.0, 1e-3):
        tuned = tuned_text_features(tiny_backbone, prompts, features, marginal_entropy, share=1.0, lr=lr)
        losses.append(marginal_entropy(view_logits(tiny_backbone, features, tuned)))
    assert (losses[1] < losses[0]).all()


def test_the_losses_are_the_entropies_of_the_sheet() -> None:
    logits = torch.randn(4, 6, 5)
    assert torch.allclose(marginal_entropy(logits), entropy(logits.softmax(-1).mean(1).log()), atol=1e-6)
    assert torch.allclose(mean_entropy(logits), entropy(logits).mean(1))


def test_few_sentences_at_a_time_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    features = features_of(tiny_backbone, images)
    whole = tuned_text_features(tiny_backbone, prompts, features, mean_entropy, share=0.1, lr=5e-3)
    monkeypatch.setattr(prompt_tuning, "SENTENCES_AT_ONCE", 1)
    parts = tuned_text_features(tiny_backbone, prompts, features, mean_entropy, share=0.1, lr=5e-3)
    assert torch.allclose(whole, parts, atol=1e-5)


def test_without_a_step_it_is_the_undefended_model(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """The answer comes from the image alone: the views only tune."""
    still = TPT(tiny_backbone, lr=0.0)(images, prompts)
    assert torch.allclose(still, tiny_backbone(images, words(prompts)), atol=1e-4)
    assert not torch.allclose(TPT(tiny_backbone)(images, prompts), still, atol=1e-3)


def test_the_surrogate_is_the_gradient_of_the_tuned_model(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    defence, inputs = TPT(tiny_backbone), images.clone().requires_grad_()
    logits = defence(inputs, prompts, draws=Draws(KEYS, 1), gradient="straight-through")
    (through,) = torch.autograd.grad(logits[:, 0].sum(), inputs)
    tuned = tuned_text_features(
        tiny_backbone, prompts, features_of(tiny_backbone, images), marginal_entropy, share=0.1, lr=5e-3
    )
    own = F.normalize(tiny_backbone.encode_image(inputs), dim=-1)
    (expected,) = torch.autograd.grad((tiny_backbone.logit_scale * own * tuned[:, 0]).sum(), inputs)
    assert torch.allclose(through, expected, atol=1e-4)


def test_the_sample_before_leaves_no_trace(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    before = {n: p.clone() for n, p in tiny_backbone.named_parameters()}
    hooks = [len(m._forward_hooks) for m in tiny_backbone.modules()]
    defence = TPT(tiny_backbone)
    first = defence(images, prompts, draws=Draws(KEYS))
    defence(1 - images, prompts, gradient="unrolled")
    assert torch.equal(defence(images, prompts, draws=Draws(KEYS)), first)
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in tiny_backbone.named_parameters())
    assert [len(m._forward_hooks) for m in tiny_backbone.modules()] == hooks


def test_sixteen_views_keep_one(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    few = TPT(tiny_backbone, {"views": "16"})
    before = tiny_backbone.passes.forward
    few(images, prompts)
    assert tiny_backbone.passes.forward - before == 6 * 16
