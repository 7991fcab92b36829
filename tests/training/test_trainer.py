"""The loop against one written out by hand; parts, phases and groups; the curve of losses; what it refuses."""

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.tecoa.train import TeCoATraining
from vlm_gauntlet.training.recipe import Phase, Recipe
from vlm_gauntlet.training.samples import InMemory, as_bytes
from vlm_gauntlet.training.trainer import fit, make_optimiser, set_rates

from .toy import Line, points, recipe

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def test_tecoa_is_the_loop_written_out_bit_for_bit(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    eps, seed, pixels = 8 / 255, 3, as_bytes(images)
    student = tiny_backbone.tuned({})
    tower = list(student.clip.visual.requires_grad_(True).parameters())
    optimiser = torch.optim.SGD(tower, lr=0.05, momentum=0.9)
    for step in range(8):
        epoch, batch = divmod(step, 2)
        order = torch.randperm(6, generator=torch.Generator().manual_seed(key_of(seed, "epoch", epoch)))
        index = order[3 * batch : 3 * batch + 3]
        clean, labels = pixels[index].float() / 255, LABELS[index]
        noise = Draws(tuple(key_of(seed, step, i) for i in index.tolist())).uniform(clean, -eps, eps)
        found = (clean + noise).clamp(clean - eps, clean + eps).clamp(0, 1)
        for _ in range(2):
            found.requires_grad_()
            inner = torch.nn.functional.cross_entropy(student(found, prompts), labels)
            (gradient,) = torch.autograd.grad(inner, found)
            found = (found.detach() + eps * gradient.sign()).clamp(clean - eps, clean + eps).clamp(0, 1)
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(student(found, prompts), labels).backward()
        rate = 0.05 * (step + 1) / 2 if step < 2 else 0.05 * 0.5 * (1 + math.cos(math.pi * (step - 2) / 6))
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()

    training = TeCoATraining(tiny_backbone, prompts, {})
    attack = {"eps": "8/255", "steps": 2, "step_size": "8/255"}
    data = InMemory({"images": pixels, "labels": LABELS}, seed=seed, digest="noise")
    fit(training, recipe(epochs=4, batch_size=3, attack=attack), data, None)
    for ours, theirs in zip(training.weights.values(), tower, strict=True):
        assert torch.equal(ours, theirs)


def test_the_rates_that_the_optimiser_gets() -> None:
    """0.8 at the top, two steps of warm-up in five, the cosine over three; the other group has a tenth."""
    sgd = {"name": "sgd", "learning_rate": 0.8, "groups": {"bias": {"learning_rate": 0.08}}}
    (phase,) = recipe(optimiser=sgd).phases
    optimiser, names = make_optimiser(Line(), phase)
    for step, rate in ((0, 0.4), (1, 0.8), (2, 0.8), (3, 0.6), (4, 0.2)):
        assert set_rates(optimiser, phase, step, 5) == pytest.approx(rate)
        assert [g["lr"] for g in optimiser.param_groups] == pytest.approx([rate, rate / 10])
    assert names == ["w", "b"]


def weights_after(asked: Recipe, data: InMemory | None = None) -> dict[str, Tensor]:
    training = Line()
    fit(training, asked, data or points(), None)
    return dict(training.weights)


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_accumulated_parts_equal_the_large_batch(parts: int) -> None:
    """Also where the parts differ in size: 5 in 2 is 3 and 2."""
    whole, split = weights_after(recipe()), weights_after(recipe(accumulate=parts))
    for name in whole:
        assert torch.allclose(whole[name], split[name], atol=1e-6)


def test_a_phase_trains_its_own_weights_with_an_optimiser_of_its_own() -> None:
    slow = {"optimiser": {"name": "adamw", "learning_rate": 0.01, "weight_decay": 0.0, "betas": (0.9, 0.999)}}
    both = recipe().phases[0]
    training, asked = Line(), recipe(phases=(both, both.model_copy(update={"name": "bias"})))
    first = weights_after(recipe())
    fit(training, asked, points(), None)
    assert torch.equal(training.w, first["w"]) and not torch.equal(training.b, first["b"])
    (phase,) = Recipe(epochs=1, batch_size=5, **slow, phases=({"name": "bias"},)).phases
    optimiser, names = make_optimiser(training, phase)
    assert isinstance(optimiser, torch.optim.AdamW) and names == ["b"]
    assert training.b.requires_grad and not training.w.requires_grad


def test_what_a_method_does_after_a_step_is_done_after_each() -> None:
    class Bounded(Line):
        def after_step(self, phase: Phase) -> None:
            with torch.no_grad():
                self.w.clamp_(0.9, 1.1)

    training = Bounded()
    fit(training, recipe(), points(), None)
    assert training.w.min() >= 0.9 and training.w.max() <= 1.1


def test_clipping_bounds_the_gradient() -> None:
    sgd = {"name": "sgd", "learning_rate": 1.0}
    asked = {"optimiser": sgd, "schedule": {"name": "constant"}, "epochs": None, "steps": 1}
    moved = weights_after(recipe(**asked, clip=0.01))
    length = math.sqrt(float((moved["w"] - 1).square().sum() + moved["b"].square().sum()))
    assert length == pytest.approx(0.01, rel=1e-4)
    assert (weights_after(recipe(**asked))["w"] - 1).norm() > 0.1


def test_nothing_but_the_weights_is_left() -> None:
    training = Line()
    fit(training, recipe(), points(), None)
    assert all(not t.requires_grad and t.grad is None for t in training.weights.values())


def test_the_curve_has_a_line_a_step_with_every_term(tmp_path: Path) -> None:
    both = recipe().phases[0]
    bias = both.model_copy(update={"name": "bias", "epochs": 1})
    fit(Line(), recipe(phases=(both, bias)), points(), tmp_path / "line.safetensors")
    with (tmp_path / "line.loss.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["phase"], int(r["step"])) for r in rows] == [
        *(("main", i) for i in range(12)), *(("bias", i) for i in range(4)),
    ]  # fmt: skip
    for row in rows[:12]:
        assert float(row["loss"]) == pytest.approx(float(row["square"]) + float(row["decay"]), rel=1e-6)
    assert rows[-1]["decay"] == "" and rows[-1]["loss"] == rows[-1]["square"]
    data = points()
    (index,) = [b["x"] for b, _ in zip(data.batches(5, 0), range(1), strict=False)]
    (y,) = [b["y"] for b, _ in zip(data.batches(5, 0), range(1), strict=False)]
    assert float(rows[0]["square"]) == pytest.approx((index.sum(1) - y).square().mean().item(), rel=1e-6)
    assert float(rows[0]["rate"]) == pytest.approx(0.025)


def test_what_cannot_be_split_is_refused() -> None:
    with pytest.raises(GauntletError, match="compares the samples of a batch"):
        fit(Line(couples_batch=True), recipe(accumulate=2), points(), None)
    with pytest.raises(GauntletError, match="at most 5 parts"):
        fit(Line(), recipe(accumulate=6), points(), None)


def test_a_loss_that_is_not_finite_stops_with_its_terms() -> None:
    sgd = {"name": "sgd", "learning_rate": 1e30}
    with pytest.raises(GauntletError, match=r"not finite.*square"):
        fit(Line(), recipe(optimiser=sgd), points(), None)


def test_a_group_and_a_term_that_nobody_knows() -> None:
    sgd = {"name": "sgd", "learning_rate": 0.1, "groups": {"slpe": {"weight_decay": 0.0}}}
    with pytest.raises(GauntletError, match="did you mean slope"):
        fit(Line(), recipe(optimiser=sgd), points(), None)
    training = Line()
    training.terms = ("square",)
    with pytest.raises(ContractError, match="name them all in `terms`"):
        fit(training, recipe(), points(), None)
