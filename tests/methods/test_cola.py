"""COLA against its sheet: projection, weights, transport, switches, gradient of the attacker."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.cola.method import COLA
from vlm_gauntlet.methods.cola.text_bank import text_bank
from vlm_gauntlet.methods.cola.views import random_crops

KEYS = tuple(range(6))
CONVERGED = {"tolerance": 1e-7, "iterations": 5000}


def logits(defence: COLA, images: Tensor, prompts: PromptSet) -> Tensor:
    return defence(images, prompts, draws=Draws(KEYS, 1)).detach()


def problems(defence: COLA, images: Tensor, prompts: PromptSet) -> tuple[Tensor, Tensor, Tensor]:
    defence.draws = Draws(KEYS, 1)
    return defence.problems(images, prompts)


@pytest.mark.parametrize("seed", range(20))
def test_a_full_rank_projection_changes_no_answer_of_a_single_view(
    seed: int, tiny_backbone: Backbone, prompts: PromptSet
) -> None:
    """Sheet 3.4: <Pi x, z> = <x, z> for z in the span, here of 5 sentences in 16 dimensions: only the scale changes."""
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    on, off = (
        logits(COLA(tiny_backbone, {"projection": p, "bank": "templates"}, views=1), images, prompts)
        for p in ("on", "off")
    )
    scale = (on * off).sum(1, keepdim=True) / off.square().sum(1, keepdim=True)
    assert torch.allclose(on, scale * off, atol=1e-4) and (scale > 1.01).all()
    first, second = off.topk(2).values.unbind(1)
    sure = first - second > 1e-3  # ten times what the two lie apart
    assert sure.sum() > 3 and torch.equal(on.argmax(1)[sure], off.argmax(1)[sure])


def test_a_small_subspace_changes_the_logits(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    full, small = (logits(COLA(tiny_backbone, directions=c), images, prompts) for c in (256, 2))
    assert not torch.allclose(full, small, atol=1e-2)


def test_directions_are_the_top_singular_vectors(tiny_backbone: Backbone) -> None:
    """Against the eigenvectors of Z Z^T; duplicates and padding add no direction."""
    bank = text_bank(tiny_backbone, (("a cat", "a dog", "a cat"), ("a ship",)))
    z = F.normalize(tiny_backbone.encode_text(["a cat", "a dog", "a cat", "a ship"]), dim=-1)
    values, vectors = torch.linalg.eigh(z.T @ z)
    assert bank.directions.shape == (3, 16)
    top = vectors[:, values.argsort(descending=True)[:2]]
    assert torch.allclose(bank.directions[:2].T @ bank.directions[:2], top @ top.T, atol=1e-4)
    assert bank.present.tolist() == [[True] * 3, [True, False, False]]


def test_one_view_and_one_sentence_are_plain_clip(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    plain = COLA(tiny_backbone, {"bank": "templates", "projection": "off", "first_view": "image"}, views=1)
    assert torch.allclose(logits(plain, images, prompts), tiny_backbone(images, prompts), atol=1e-4)


def test_weights_sum_to_one_and_prefer_the_sure(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = COLA(tiny_backbone)
    bank = defence.bank(prompts)
    _, rows, columns = problems(defence, images, prompts)
    assert torch.allclose(rows.sum(-1), torch.ones(6, 5)) and torch.allclose(columns.sum(-1), torch.ones(6, 5))
    features = F.normalize(torch.cat([bank.means[:1], bank.means.mean(0, keepdim=True)]), dim=-1)
    sure, unsure = defence.weights(features, bank)
    p = torch.softmax(tiny_backbone.logit_scale * features @ bank.means.T, -1)
    expected = torch.softmax((p * p.log()).sum(-1) / 0.5, -1)  # softmax(-H / 0.5)
    assert sure > unsure and torch.allclose(torch.stack([sure, unsure]), expected, atol=1e-5)


def test_the_plan_of_every_class_has_its_marginals(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = COLA(tiny_backbone)
    similarity, rows, columns = problems(defence, images, prompts)
    plan = defence.plan(1 - similarity, rows, columns)
    assert torch.allclose(plan.sum(-2), columns, atol=1e-5)
    assert ((plan.sum(-1) - rows).abs().sum(-1) <= 1e-2).all()


def test_classes_of_unequal_size_have_a_finite_gradient(
    tiny_backbone: Backbone, images: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "two.toml"
    path.write_text('cat = ["A cat.", "A furry cat.", "A small cat."]\ndog = ["A dog."]\n')
    both = PromptSet.from_templates(["cat", "dog"], ["a {c}"])
    defence, inputs = COLA(tiny_backbone, descriptions=path), images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(defence(inputs, both, draws=Draws(KEYS, 1))[:, 0].sum(), inputs)
    assert torch.isfinite(gradient).all() and (gradient.flatten(1).norm(dim=1) > 0).all()
    similarity, _, _ = problems(defence, images, both)
    alone = similarity[:, 1, :, 0]  # one sentence: all views go there, each with its own weight
    weights = problems(defence, images, both)[1][:, 1]
    assert torch.allclose(
        logits(defence, images, both)[:, 1], tiny_backbone.logit_scale * (alone * weights).sum(-1), atol=0.02
    )


@pytest.mark.parametrize(
    "switch",
    [{"projection": "off"}, {"transport": "mean"}, {"bank": "templates"}, {"bank": "with-template"},
     {"weights": "uniform"}, {"first_view": "image"}, {"smallest_crop": "0.5"}, {"arm": "views"}, {"arm": "bank"},
     {"eps": "0.03"}, {"eps": "0.3"}, {"temperature": "0.25"}, {"temperature": "1"}],
    ids=str,
)  # fmt: skip
def test_every_switch_changes_the_logits(
    switch: dict[str, str], tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    default, switched = (logits(COLA(tiny_backbone, s), images, prompts) for s in ({}, switch))
    assert not torch.allclose(default, switched, atol=1e-4)


def mean_cosine(defence: COLA, views: Tensor, prompts: PromptSet) -> Tensor:
    """By hand: 100 cos, averaged over the views and over the descriptions of each class, which are as many for all."""
    x = F.normalize(defence.backbone.encode_image(views.flatten(0, 1)), dim=-1)
    bank = defence.bank(prompts)
    assert bank.present.all()
    cosines = torch.stack([x @ z.T for z in bank.features], 1).mean(-1)
    return defence.backbone.logit_scale * cosines.view(*views.shape[:2], -1).mean(1).detach()


def test_the_control_arms_are_plain_means(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Sheet 3.4: random crops, or the image alone, averaged with the same descriptions; no transport, no projection."""
    crops = random_crops(images, Draws(KEYS, 1), 5, 0.08)
    for arm, views in (("views", crops), ("bank", images[:, None])):
        defence = COLA(tiny_backbone, {"arm": arm})
        assert torch.allclose(logits(defence, images, prompts), mean_cosine(defence, views, prompts), atol=1e-4), arm


def test_an_arm_gives_way_to_a_switch_beside_it(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    arm = COLA(tiny_backbone, {"arm": "views", "projection": "on"})
    spelt = COLA(tiny_backbone, {"transport": "mean", "weights": "uniform"})
    assert torch.equal(logits(arm, images, prompts), logits(spelt, images, prompts))
    with pytest.raises(GauntletError, match="views"):
        COLA(tiny_backbone, {"arm": "view"})


def test_the_default_is_the_full_method_with_the_cards_constants(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    card = COLA.card.hyperparameters
    default, spelt = COLA(tiny_backbone), COLA(tiny_backbone, **card)
    assert {name: getattr(default, name) for name in card} == card
    assert torch.equal(logits(default, images, prompts), logits(spelt, images, prompts))
    switched = COLA(tiny_backbone, {"arm": "full", "directions": "32", "eps": "0.03", "temperature": "1"})
    assert (switched.directions, switched.eps, switched.temperature) == (32, 0.03, 1.0)


def test_much_regularisation_is_the_mean_and_little_is_not(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    mean = logits(COLA(tiny_backbone, {"transport": "mean"}), images, prompts)
    distances = [
        float((logits(COLA(tiny_backbone, eps=eps, **CONVERGED), images, prompts) - mean).abs().max())
        for eps in (1e3, 0.3, 0.1)
    ]
    assert distances[0] < 1e-3 < distances[1] < distances[2]


def test_the_bank_switch_says_what_is_read(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    other = PromptSet.from_templates(prompts.class_names, ["a drawing of a {c}."])
    for bank, reads in (("descriptions", False), ("with-template", True), ("templates", True)):
        defence = COLA(tiny_backbone, {"bank": bank})
        same = torch.equal(logits(defence, images, prompts), logits(defence, images, other))
        assert same != reads, bank


def test_undescribed_classes_are_named(tiny_backbone: Backbone, images: Tensor) -> None:
    strange = PromptSet.from_templates(["cat", "quokka"], ["a {c}"])
    with pytest.raises(UnavailableError, match=r"no descriptions of 1 of 2 classes: quokka"):
        COLA(tiny_backbone)(images, strange)


def test_crops_lie_inside_and_keep_what_they_promise() -> None:
    """Of a picture whose pixels hold their own column: a crop is a piece of the ramp, mirrored half of the time."""
    ramp = torch.linspace(0, 1, 64).expand(40, 3, 64, 64)
    views = random_crops(ramp, Draws(tuple(range(40))), 5, 0.08)
    assert views.shape == (40, 5, 3, 64, 64) and views.min() >= 0 and views.max() <= 1
    spans = views[..., 0, 0, -1] - views[..., 0, 0, 0]
    assert 0.3 < (spans < 0).float().mean() < 0.7
    assert spans.abs().min() > (0.08 * 3 / 4) ** 0.5 - 0.03 and spans.abs().max() > 0.95
    whole = random_crops(ramp, Draws(tuple(range(40))), 5, 1.0)[:, :, 0, 0]
    assert (whole[..., -1] - whole[..., 0]).abs().min() > 0.85  # all of the area, but for the aspect ratio


def _gradient(defence: COLA, images: Tensor, prompts: PromptSet, route: str) -> Tensor:
    inputs = images.clone().requires_grad_()
    loss = F.cross_entropy(defence(inputs, prompts, draws=Draws(KEYS, 1), gradient=route), torch.arange(6) % 5)
    return torch.autograd.grad(loss, inputs)[0].flatten(1)


def test_the_surrogate_points_where_the_unrolled_gradient_does(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    defence = COLA(tiny_backbone, **CONVERGED)
    surrogate, unrolled = (_gradient(defence, images, prompts, r) for r in ("straight-through", "unrolled"))
    assert not torch.equal(surrogate, unrolled)
    assert F.cosine_similarity(surrogate, unrolled).min() > 0.95


def test_without_transport_the_surrogate_is_exact(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Also the part through the weights, which a plan held constant would hide."""
    defence = COLA(tiny_backbone, {"transport": "mean"})
    surrogate, unrolled = (_gradient(defence, images, prompts, r) for r in ("straight-through", "unrolled"))
    assert torch.allclose(surrogate, unrolled, rtol=1e-3, atol=1e-6)


def test_text_is_read_once_and_images_are_counted(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = COLA(tiny_backbone)
    assert defence.bank(prompts) is COLA(tiny_backbone).bank(prompts)
    before = tiny_backbone.passes.forward
    logits(defence, images, prompts)
    assert tiny_backbone.passes.forward - before == 5 * 6
