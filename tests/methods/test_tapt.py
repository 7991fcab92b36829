"""TAPT against its sheet: the step, the loss, the snapshot bug, what it costs, and that nothing stays behind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.visual_prompts import TokenStatistics
from vlm_gauntlet.methods.base import GRADIENTS
from vlm_gauntlet.methods.tapt.method import TAPT
from vlm_gauntlet.methods.tapt.pretuned import DeepPrompts, Pretuned, untrained
from vlm_gauntlet.methods.tapt.train import PromptTraining, clean_statistics, train
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Recipe
from vlm_gauntlet.training.samples import InMemory, as_bytes
from vlm_gauntlet.training.trainer import fit

KEYS = tuple(range(6))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
RECIPE = """
epochs = 1
batch_size = 4
shots = 2
optimiser = { name = "sgd", learning_rate = 0.1 }
attack = { eps = "8/255", steps = 1, step_size = "8/255" }
phases = [{ name = "robust" }, { name = "clean", attack = { eps = "0" } }]
"""


def pretuned(backbone: Backbone, images: Tensor, variant: str = "V", seed: int = 1) -> Pretuned:
    robust, clean = (untrained(backbone, variant, seed=10 * seed + i) for i in range(2))
    noise = torch.Generator().manual_seed(seed)
    moved = {n: t + 0.3 * torch.randn(t.shape, generator=noise) for n, t in robust.tensors.items()}
    robust = DeepPrompts(**moved)
    return Pretuned(robust, clean_statistics(backbone, robust, images), clean_statistics(backbone, clean, images))


def defence(backbone: Backbone, images: Tensor, variant: str = "V", seed: int = 1, **switches: str) -> TAPT:
    return TAPT(backbone, {"variant": variant, **switches}, pretuned=pretuned(backbone, images, variant, seed))


def logits(chosen: TAPT, images: Tensor, prompts: PromptSet, route: str = "direct") -> Tensor:
    return chosen(images, prompts, draws=Draws(KEYS[: len(images)], 1), gradient=route)


def tuned(chosen: TAPT, images: Tensor, prompts: PromptSet) -> DeepPrompts:
    chosen.draws = Draws(KEYS, 1)
    return chosen.tune(images, prompts)


@pytest.mark.parametrize("variant", ["V", "VLI", "VLJ"])
@pytest.mark.parametrize("route", GRADIENTS)
def test_a_sample_does_not_see_its_neighbours(
    variant: str, route: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    chosen = defence(tiny_backbone, images, variant)
    whole = logits(chosen, images, prompts, route)
    alone = [chosen(images[i : i + 1], prompts, draws=Draws((k,), 1), gradient=route) for i, k in enumerate(KEYS)]
    assert torch.allclose(whole, torch.cat(alone), atol=1e-4)


@pytest.mark.parametrize("variant", ["V", "VLI", "VLJ"])
def test_the_step_is_one_of_torchs_adamw_on_the_papers_loss(
    variant: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Written out for the first image, with torch's optimiser and biased or unbiased moments over six views."""
    from vlm_gauntlet.methods.views import draw_views

    chosen = defence(tiny_backbone, images, variant)
    moved = tuned(chosen, images, prompts)
    seen = draw_views(images, Draws(KEYS, 1)).render(images, 16)[:1]
    with torch.no_grad():
        p = chosen.start.logits(tiny_backbone, seen, prompts)[0].softmax(-1)
    six = (-(p * p.log()).sum(-1)).argsort()[:6]
    own, record = chosen.start.repeated(1), []
    p = own.logits(tiny_backbone, seen[:, six], prompts, record)[0].softmax(-1).mean(0)
    loss = -(p * p.log()).sum()
    for kept in (chosen.pretuned.robust, chosen.pretuned.clean):
        for layer, tokens in enumerate(record):
            loss = loss + 0.5 * (tokens.mean(0) - kept.mean[0, layer]).abs().sum()
            loss = loss + 0.5 * (tokens.var(0) - kept.variance[0, layer]).abs().sum()
    optimiser = torch.optim.AdamW(own.tensors.values(), lr=5e-4)
    loss.backward(inputs=list(own.tensors.values()))
    optimiser.step()
    for name, tokens in own.tensors.items():
        assert torch.allclose(moved.tensors[name][:1], tokens, atol=2e-5), name
        assert not torch.allclose(tokens, chosen.start.tensors[name], atol=1e-4), name


def test_first_tokens_that_pass_the_norm_have_no_size(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """As coded, three times the first layer's tokens are the same to the blocks; behind the norm they are not."""
    for choice, same in (("layer-norm", True), ("bypass", False)):
        chosen = defence(tiny_backbone, images, first_tokens=choice)
        start = chosen.start
        large = replace(start, visual=torch.cat([3 * start.visual[:, :1], start.visual[:, 1:]], dim=1))
        means = [clean_statistics(tiny_backbone, own, images).mean for own in (start, large)]
        assert torch.allclose(*means, atol=1e-2) == same
        first = means[0][0, 0, -2:]  # the prompts' own places, where every picture has the same tokens
        expected = tiny_backbone.clip.visual.ln_pre(start.visual[0, 0]) if same else start.visual[0, 0]
        assert torch.allclose(first, expected, atol=1e-5)
        step = tuned(chosen, images, prompts)
        assert step.normed == same and step.visual.shape == (6, *start.visual.shape[1:])


def test_each_place_of_the_first_tokens_has_a_checkpoint_of_its_own(
    tmp_path: Path, tiny_backbone: Backbone, job_of: Callable[..., TrainingJob]
) -> None:
    with pytest.raises(UnavailableError, match=r"gauntlet train tapt\+first_tokens=bypass\+variant=VLI"):
        TAPT(tiny_backbone, {"first_tokens": "bypass", "variant": "VLI"})
    chosen = {"first_tokens": "bypass", "variant": "V"}
    (tmp_path / "short.toml").write_text(RECIPE)
    path = train(job_of("tapt", tmp_path, wanted=str(tmp_path / "short.toml"), deviations=chosen))
    assert path.name == "tiny+first_tokens=bypass.safetensors"


def test_alignment_as_coded_has_the_codes_constants(tiny_backbone: Backbone, images: Tensor) -> None:
    """Sheet: mean absolute differences, half each, the last prompted layer forgotten, 100 over the depth."""
    zero, layers = torch.zeros(1, 2, 7, 32), torch.zeros(1, 2, 7, 32)
    layers[:, 0], layers[:, 1] = 1.0, 10.0
    kept, now = TokenStatistics(zero, zero), TokenStatistics(layers, 3 * layers)
    paper, coded = (
        defence(tiny_backbone, images, alignment=a).distance(now, kept).item() for a in ("paper", "as_coded")
    )
    assert paper == pytest.approx(7 * 32 * (1 + 3 + 10 + 30))
    assert coded == pytest.approx(100 / 2 * (1 + 3) / 2)


@pytest.mark.parametrize("variant", ["V", "VLI"])
def test_as_released_never_uses_the_trained_deep_prompts(
    variant: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Trap a: two trainings give the same answers, except for VLI's first-layer context."""

    def answer(snapshot: str, seed: int, keep: tuple[str, ...] = ()) -> Tensor:
        one, other = pretuned(tiny_backbone, images, variant), pretuned(tiny_backbone, images, variant, seed)
        mixed = other.prompts.tensors | {name: one.prompts.tensors[name] for name in keep}
        start = Pretuned(DeepPrompts(**mixed), one.robust, one.clean)
        switches = {"variant": variant, "snapshot": snapshot}
        return logits(TAPT(tiny_backbone, switches, pretuned=start), images, prompts)

    context = ("context",) if variant == "VLI" else ()
    assert torch.equal(answer("as_released", 1), answer("as_released", 2, keep=context))
    assert not torch.allclose(answer("after_load", 1), answer("after_load", 2, keep=context), atol=1e-3)
    if context:
        assert not torch.allclose(answer("as_released", 1), answer("as_released", 2), atol=1e-3)


def test_vlj_copies_its_prompts_after_they_are_loaded(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    released, loaded = (
        logits(defence(tiny_backbone, images, "VLJ", snapshot=s), images, prompts)
        for s in ("as_released", "after_load")
    )
    assert torch.equal(released, loaded)


def test_the_visual_tokens_of_vlj_are_projections_of_the_textual_ones(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """By hand: layer 0's come from the context, layer 1's from the deep tokens; then it is VLI with these tokens."""
    joint = untrained(tiny_backbone, "VLJ", seed=3)
    assert joint.visual is None and joint.weight.shape == (1, 2, 32, 16) and joint.deep.shape == (1, 1, 2, 16)
    text = (joint.context[0], joint.deep[0, 0])
    by_hand = torch.stack([torch.nn.functional.linear(text[i], joint.weight[0, i], joint.bias[0, i]) for i in range(2)])
    assert torch.allclose(joint.visual_tokens[0], by_hand, atol=1e-6)
    independent = DeepPrompts(by_hand[None], joint.context, joint.deep)
    found = [own.logits(tiny_backbone, images[None], prompts) for own in (joint, independent)]
    assert torch.allclose(*found, atol=1e-5)


def test_the_text_tower_of_vlj_reads_the_tokens_of_the_layers_that_it_has(prompts: PromptSet) -> None:
    """miniclip-vit: five prompted layers that see, two that read; the tokens of the others reach pictures only."""
    backbone = load_backbone("miniclip-vit")
    joint = untrained(backbone, "VLJ").repeated(1)
    assert joint.visual_tokens.shape == (1, 5, 2, 128) and joint.deep.shape == (1, 4, 2, 96)
    (gradient,) = torch.autograd.grad(joint.class_weights(backbone, prompts)[..., 0].sum(), joint.deep)
    assert gradient[:, 0].abs().max() > 0 and gradient[:, 1:].abs().max() == 0


def test_the_codes_words_stand_in_place_of_the_data_sets(tiny_backbone: Backbone, images: Tensor) -> None:
    names = ["cat", "dog", "ship"]
    own, photo = (PromptSet.from_templates(names, [t]) for t in ("a sketch of {c}", "a photo of a {c}."))
    coded = defence(tiny_backbone, images, words="a-photo-of-a")
    assert torch.equal(logits(coded, images, own), logits(coded, images, photo))
    assert not torch.allclose(logits(defence(tiny_backbone, images), images, own), logits(coded, images, own))


@pytest.mark.parametrize("variant", ["V", "VLI", "VLJ"])
def test_it_costs_what_the_card_says(variant: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    chosen, passes = defence(tiny_backbone, images, variant), tiny_backbone.passes
    forward, backward = passes.forward, passes.backward
    logits(chosen, images[:1], prompts)
    assert (passes.forward - forward, passes.backward - backward) == (64 + 6 + 1, 6)
    assert (chosen.card.cost.forward, chosen.card.cost.backward) == (71, 6)


@pytest.mark.parametrize("variant", ["V", "VLI", "VLJ"])
def test_an_attack_leaves_no_trace(variant: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    chosen = defence(tiny_backbone, images, variant)
    before = {n: t.clone() for n, t in [*chosen.named_parameters(), *chosen.named_buffers()]}
    start = {n: t.clone() for n, t in chosen.pretuned.tensors.items()}
    for route in GRADIENTS:
        inputs = images.clone().requires_grad_()
        torch.autograd.grad(logits(chosen, inputs, prompts, route).sum(), inputs)
    for name, tensor in [*chosen.named_parameters(), *chosen.named_buffers()]:
        assert torch.equal(tensor, before[name]) and tensor.grad is None
    assert all(torch.equal(t, start[n]) and t.grad is None for n, t in chosen.pretuned.tensors.items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in chosen.modules())


def test_the_attacker_differentiates_through_the_step_only_when_unrolled(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    chosen = defence(tiny_backbone, images)
    inputs = images.clone().requires_grad_()
    through, unrolled = (
        torch.autograd.grad(logits(chosen, inputs, prompts, route)[:, 0].sum(), inputs)[0]
        for route in ("straight-through", "unrolled")
    )
    fixed = tuned(chosen, images, prompts).logits(tiny_backbone, inputs[:, None], prompts)[:, 0]
    (static,) = torch.autograd.grad(fixed[:, 0].sum(), inputs)
    assert torch.allclose(through, static, atol=1e-5)
    assert torch.isfinite(unrolled).all()
    assert (unrolled - static).norm() > 5e-5 * static.norm() > 10 * (through - static).norm()


def test_other_towers_and_missing_prompts_are_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match="transformer image tower"):
        TAPT(load_backbone("miniclip-cnn"))
    with pytest.raises(UnavailableError, match="gauntlet train tapt --backbone tiny"):
        TAPT(tiny_backbone)


@pytest.mark.parametrize("variant", ["V", "VLI", "VLJ"])
def test_the_shipped_prompts_are_trained_and_their_statistics_fit_the_tower(variant: str) -> None:
    backbone = load_backbone("miniclip-vit")
    made, start = Pretuned.load(backbone, variant), untrained(backbone, variant)
    for name, tokens in start.tensors.items():
        assert made.prompts.tensors[name].shape == tokens.shape
        assert (made.prompts.tensors[name] - tokens).abs().mean() > 1e-3
    assert made.robust.mean.shape == made.clean.variance.shape == (1, 6, 1 + 16 + 2, 128)
    assert not torch.allclose(made.robust.mean, made.clean.mean, atol=0.01)


@pytest.mark.parametrize("variant", ["V", "VLI", "VLJ"])
def test_pre_tuning_makes_prompts_robust(
    variant: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    start = untrained(tiny_backbone, variant)
    recipe = Recipe(
        epochs=15, batch_size=3, optimiser={"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
        attack={"eps": "8/255", "steps": 2, "step_size": "8/255"},
        phases=({"name": "robust"}, {"name": "clean", "attack": {"eps": "0"}}),
    )  # fmt: skip
    training = PromptTraining(tiny_backbone, start, prompts)
    fit(training, recipe, InMemory({"images": as_bytes(images), "labels": LABELS}, seed=0, digest="noise"), None)

    def loss(tokens: DeepPrompts) -> Tensor:
        victim = Plain(lambda x: tokens.logits(tiny_backbone, x[None], prompts)[0])
        return PGD("linf", 8 / 255, steps=5)(victim, images, LABELS, KEYS).telemetry["last_loss"].mean()

    robust, clean = training.tuned("robust"), training.tuned("clean")
    assert loss(robust) < min(loss(start), loss(clean))
    assert set(robust.tensors) == set(start.tensors)


def test_statistics_come_from_all_pictures(tiny_backbone: Backbone, images: Tensor) -> None:
    prompts = untrained(tiny_backbone, "V")
    whole = clean_statistics(tiny_backbone, prompts, images.repeat(50, 1, 1, 1))
    assert torch.allclose(whole.mean, clean_statistics(tiny_backbone, prompts, images).mean, atol=1e-5)
