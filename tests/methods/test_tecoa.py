"""TeCoA: the training objective against its definition, and the checkpoints that the defence finds."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.tecoa.method import TeCoA
from vlm_gauntlet.methods.tecoa.train import TeCoATraining
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))


def phase(eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": eps}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}, attack=attack)


def training_of(backbone: Backbone, prompts: PromptSet, **deviations: str) -> TeCoATraining:
    training = TeCoATraining(backbone, prompts, deviations)
    make_optimiser(training, phase())
    return training


def test_loss_is_cross_entropy_over_class_texts(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    training, batch = training_of(tiny_backbone, prompts), Batch({"images": images, "labels": LABELS}, KEYS)
    cosine = F.normalize(tiny_backbone.encode_image(images), dim=-1) @ tiny_backbone.text_features(prompts).T
    clean = -(tiny_backbone.logit_scale * cosine).log_softmax(1)[range(6), LABELS].mean()
    assert torch.allclose(training.loss(batch, phase("0"))["adversarial"], clean, atol=1e-5)
    assert training.loss(batch, phase())["adversarial"] > clean


def test_isolated_attack_leaves_the_parameters_gradients_alone(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Sheet, TeCoA defect 6: gradients of the step must be those of the loss on the adversarial images alone."""
    norms, batch = {}, Batch({"images": images, "labels": LABELS}, KEYS)
    for choice in ("isolated", "accumulated"):
        training = training_of(tiny_backbone, prompts, attack_gradients=choice)
        loss = training.loss(batch, phase())["adversarial"]
        before = [p.grad for p in training.weights.values()]
        assert all(g is None for g in before) == (choice == "isolated")
        loss.backward()
        norms[choice] = sum(float(p.grad.norm()) for p in training.weights.values())
    assert norms["accumulated"] > 1.2 * norms["isolated"], "in fp32 the contamination is as large as the gradient"
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_the_code_is_isolated_because_its_scaler_divides_what_the_attack_left(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Step = (65536 real + left) / 65536: what the attack left is a 65536th of the step, not a part as large."""
    (switch,) = (d for d in TeCoA.card.deviations if d.name == "attack_gradients")
    assert switch.as_coded == "isolated"
    batch, steps, left = Batch({"images": images, "labels": LABELS}, KEYS), {}, {}
    for choice in ("isolated", "accumulated"):
        training = training_of(tiny_backbone, prompts, attack_gradients=choice)
        optimiser = torch.optim.SGD(training.weights.values(), lr=1.0)
        scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
        loss = training.loss(batch, phase())["adversarial"]
        left[choice] = flat(training)
        scaler.scale(loss).backward()
        scaler.unscale_(optimiser)
        steps[choice] = flat(training)
    assert left["accumulated"].norm() > 0.2 * steps["isolated"].norm() and left["isolated"].norm() == 0
    assert torch.allclose(steps["accumulated"], steps["isolated"] + left["accumulated"] / 65536, rtol=1e-4, atol=1e-7)
    assert (steps["accumulated"] - steps["isolated"]).norm() < 1e-4 * steps["isolated"].norm()


def flat(training: TeCoATraining) -> Tensor:
    """The gradients of all weights as one vector; of a weight without one, zero."""
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten().clone()
                      for p in training.weights.values()])  # fmt: skip


def test_deviations_change_the_recipe(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    chosen = {"learning_rate": "parser-default", "training_budget": "parser-default"}
    plain, coded = (job_of("tecoa", tmp_path, deviations=d).recipe.phases[0] for d in ({}, chosen))
    found = [(p.optimiser.learning_rate, float(p.budget.eps), p.budget.steps, float(p.budget.step_size))
             for p in (plain, coded)]  # fmt: skip
    assert found == [(1e-5, 1 / 255, 2, 1 / 255), (1e-7, 2 / 255, 5, 1 / 255)]


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match="gauntlet train tecoa --backbone tiny"):
        TeCoA(tiny_backbone)
    with pytest.raises(UnavailableError, match=r"tiny\+learning_rate=parser-default"):
        TeCoA(tiny_backbone, {"learning_rate": "parser-default"})


def test_mix_interpolates_weights_on_the_one_checkpoint() -> None:
    """theta(1/2) lies half way between CLIP's weights and the robust ones."""
    backbone = load_backbone("miniclip-vit", "cpu")
    whole, half = (TeCoA(backbone, {"mix": a}).robust.clip.visual.state_dict() for a in ("1", "0.5"))
    start = backbone.clip.visual.state_dict()
    moved = max(float((whole[name] - start[name]).abs().max()) for name in whole)
    assert moved > 0.01
    for name in whole:
        assert torch.allclose(half[name], (start[name] + whole[name]) / 2, atol=1e-6 * max(1.0, moved)), name
