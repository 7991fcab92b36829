"""Anti-adversary against its formula: sign steps down the cross-entropy of the model's own answer."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.anti_adversary.method import AntiAdversary


def test_one_step_by_hand(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    inputs = images.clone().requires_grad_()
    logits = tiny_backbone(inputs, prompts)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1), reduction="sum"), inputs)
    by_hand = images - 0.15 * gradient.sign()
    free = AntiAdversary(tiny_backbone, {"clip": "none"}, steps=1)
    assert torch.equal(free.moved(images, prompts), by_hand)
    assert torch.equal(AntiAdversary(tiny_backbone, steps=1).moved(images, prompts), by_hand.clamp(0, 1))


def test_alpha_moves_pixels_or_as_coded_what_the_network_takes(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """The official wrapper: z = (x - mean) / std; z - 0.15 sign(gradient at z). In pixels that is 0.15 std."""
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1), torch.tensor([0.2, 0.25, 0.5]).view(1, 3, 1, 1)
    backbone = copy.copy(tiny_backbone)
    backbone._buffers = dict(tiny_backbone._buffers, mean=mean, std=std)
    inner = ((images - mean) / std).requires_grad_()
    logits = backbone(inner * std + mean, prompts)
    (gradient,) = torch.autograd.grad(F.cross_entropy(logits, logits.argmax(1), reduction="sum"), inner)
    by_hand = (inner - 0.15 * gradient.sign()) * std + mean
    coded, ours = (
        AntiAdversary(backbone, {"clip": "none", "space": s}, steps=1).moved(images, prompts) - images
        for s in ("normalised", "pixels")
    )
    assert torch.allclose(coded, by_hand - images, atol=1e-5)
    lengths = [0.15 * 0.2, 0.15 * 0.25, 0.15 * 0.5]
    assert coded.abs().amax((0, 2, 3)).tolist() == pytest.approx(lengths, abs=1e-5)
    assert ours.abs().amax((0, 2, 3)).tolist() == pytest.approx([0.15] * 3, abs=1e-5)


def test_it_makes_the_model_surer_of_its_first_answer(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    answer = tiny_backbone(images, prompts).argmax(1)
    defence = AntiAdversary(tiny_backbone, step_size=1e-3)
    before, after = (m(images, prompts).log_softmax(1) for m in (tiny_backbone, defence))
    rows = torch.arange(len(images))
    assert (after[rows, answer] >= before[rows, answer]).all()


def test_the_switch_keeps_or_leaves_the_box(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    boxed, free = (AntiAdversary(tiny_backbone, {"clip": c}).moved(images, prompts) for c in ("box", "none"))
    assert boxed.min() >= 0 and boxed.max() <= 1
    assert free.min() < 0 and free.max() > 1


def test_no_step_is_the_undefended_model(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    assert torch.equal(AntiAdversary(tiny_backbone, steps=0)(images, prompts), tiny_backbone(images, prompts))


def test_the_attacker_gets_the_undefended_gradient(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """The first answer decides: an attack through the gradient at x + delta would overrate the defence."""
    inputs, labels = images.clone().requires_grad_(), torch.zeros(len(images), dtype=torch.long)
    defence = AntiAdversary(tiny_backbone)
    through = defence(inputs, prompts, gradient="straight-through")
    (seen,) = torch.autograd.grad(through.gather(1, labels[:, None]).sum(), inputs)
    (plain,) = torch.autograd.grad(tiny_backbone(inputs, prompts).gather(1, labels[:, None]).sum(), inputs)
    assert torch.allclose(seen, plain, atol=1e-4)
    assert torch.allclose(through, defence(images, prompts), atol=1e-4)


def test_a_sample_does_not_see_its_neighbours(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = AntiAdversary(tiny_backbone)
    alone = torch.cat([defence(image[None], prompts) for image in images])
    assert torch.allclose(defence(images, prompts), alone, atol=1e-3)


def test_passes(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """K + 1 forward, K backward: the prediction needs no pass of its own."""
    start = (tiny_backbone.passes.forward, tiny_backbone.passes.backward)
    AntiAdversary(tiny_backbone)(images[:1], prompts)
    assert (tiny_backbone.passes.forward - start[0], tiny_backbone.passes.backward - start[1]) == (3, 2)
