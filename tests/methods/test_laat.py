"""LAAT: its losses by hand, the training towards expanded anchors, and the defence that its checkpoint makes."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.learned_prompts import prompted_text_features, word_vectors
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.laat.anchors import Expansion
from vlm_gauntlet.methods.laat.losses import alignment, divergence, smoothness
from vlm_gauntlet.methods.laat.method import LAAT
from vlm_gauntlet.methods.laat.train import LAATTraining, train
from vlm_gauntlet.training.checkpoint import load_checkpoint, set_apart
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))
SHORT = """
batch_size = 8
optimiser = { name = "sgd", learning_rate = 0.05 }
schedule = { name = "constant" }
attack = { eps = "8/255", steps = 2, step_size = "8/255" }
[[phases]]
name = "first"
epochs = 1
[[phases]]
name = "tenth"
epochs = 1
optimiser = { learning_rate = 0.005 }
"""


def phase(eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": eps}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}, attack=attack)


def training_of(backbone: Backbone, prompts: PromptSet, **deviations: str) -> LAATTraining:
    training = LAATTraining(backbone, prompts, deviations)
    make_optimiser(training, phase())
    return training


def batch_of(images: Tensor) -> Batch:
    return Batch({"images": images, "labels": LABELS}, KEYS)


def some(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()


def test_alignment_divides_cosines_by_the_temperature() -> None:
    """Cosines (0, 0.5), temperature 0.5: logits (0, 1), of which the second is true: ln(1 + e^-1)."""
    loss = alignment(torch.tensor([[0.0, 0.5]]), torch.tensor([1]), 0.5)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-1)))
    assert gradcheck(lambda z: alignment(z, torch.tensor([1, 0]), 0.7), some(2, 3))


def test_smoothness_is_the_negative_mean_cosine_whatever_the_lengths() -> None:
    """Cosines 1 and 0.6: -0.8."""
    loss = smoothness(torch.tensor([[2.0, 0.0], [5.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.3, 0.4]]))
    assert loss.item() == pytest.approx(-0.8)
    assert gradcheck(smoothness, (some(2, 3), some(2, 3).detach() + 1))


def test_divergence_is_of_the_adversarial_from_the_clean_distribution() -> None:
    """KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 ln(3/2) + 1/4 ln(1/2); the other way round it would be 0.144."""
    loss = divergence(torch.tensor([[math.log(3), 0.0]]), torch.zeros(1, 2))
    assert loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert gradcheck(divergence, (some(2, 3), some(2, 3).detach().flip(0).requires_grad_()))


def test_terms_at_the_start(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Without an attack: cross-entropy of the cosines with expanded texts, and a smoothness of -1."""
    texts = tiny_backbone.text_features(prompts)
    anchors = Expansion.fit(texts)(texts)
    cosines = F.normalize(tiny_backbone.encode_image(images), dim=-1) @ anchors.T
    training = training_of(tiny_backbone, prompts)
    terms = training.loss(batch_of(images), phase("0"))
    assert terms["alignment"].item() == pytest.approx(F.cross_entropy(cosines / 0.07, LABELS).item(), abs=1e-4)
    assert terms["smoothness"].item() == pytest.approx(-1, abs=1e-5)
    attacked = training.loss(batch_of(images), phase())
    assert attacked["alignment"] > terms["alignment"] and attacked["smoothness"] > terms["smoothness"]


def test_deviations_of_the_objective(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    found = {
        name: training_of(tiny_backbone, prompts, objective=name).loss(batch_of(images), phase())
        for name in ("smooth", "adversarial", "trades")
    }
    assert [list(terms) for terms in found.values()] == [
        ["alignment", "smoothness"], ["alignment"], ["alignment", "divergence"],
    ]  # fmt: skip
    assert torch.equal(found["smooth"]["alignment"], found["adversarial"]["alignment"])
    clean = training_of(tiny_backbone, prompts).loss(batch_of(images), phase("0"))
    assert torch.allclose(found["trades"]["alignment"], clean["alignment"]) and found["trades"]["divergence"] > 0


def test_deviations_of_anchors_and_temperature(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    raw = training_of(tiny_backbone, prompts, anchors="raw")
    assert torch.equal(raw.anchors, tiny_backbone.text_features(prompts)) and not raw.beside
    soft = training_of(tiny_backbone, prompts, temperature="1")
    expected = F.cross_entropy(soft.cosines(tiny_backbone.encode_image(images)), LABELS)
    assert torch.allclose(soft.loss(batch_of(images), phase("0"))["alignment"], expected, atol=1e-5)


def test_the_rate_falls_twice_as_written_and_once_as_coded(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    twice, once = [(60, 0.05), (20, 0.005), (20, 0.0005)], [(60, 0.05), (40, 0.005)]
    for chosen, expected in ({}, twice), ({"decay": "once"}, once):
        phases = job_of("laat", tmp_path, deviations=chosen).recipe.phases
        assert [(p.epochs, p.optimiser.learning_rate) for p in phases] == expected
        assert {p.optimiser.weight_decay for p in phases} == {5e-4}
        budgets = {(float(p.budget.eps), p.budget.steps, float(p.budget.step_size)) for p in phases}
        assert budgets == {(8 / 255, 7, 2 / 255)}


@pytest.mark.parametrize("objective", ["smooth", "trades"])
def test_both_branches_reach_the_tower_and_nothing_else(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, objective: str
) -> None:
    training = training_of(tiny_backbone, prompts, objective=objective)
    loss = training.loss(batch_of(images), phase())
    assert all(p.grad is None for p in training.weights.values()), "the attack leaves no gradient"
    first, second = (torch.autograd.grad(term, training.weights.values(), retain_graph=True) for term in loss.values())
    assert all(g.abs().sum() > 0 for g in second[-2:]) and all(g.abs().sum() > 0 for g in first[-2:])
    sum(loss.values()).backward()
    assert all(p.grad is None for p in tiny_backbone.parameters()) and not training.anchors.requires_grad


def test_the_checkpoint_expands_other_texts_as_in_training(
    tiny_backbone: Backbone, images: Tensor, tmp_path: Path, job_of: Callable[..., TrainingJob]
) -> None:
    """Trained on noise of five classes; the defence's pole and factor are the training's, not those of its prompts."""
    (tmp_path / "short.toml").write_text(SHORT)
    said: list[str] = []
    job = job_of("laat", tmp_path, wanted=str(tmp_path / "short.toml"), report=said.append)
    train(job)
    (tmp_path / "checkpoints.toml").write_text(said[0])
    difference, beside = set_apart(load_checkpoint(tmp_path, "tiny", tiny_backbone, train_with=""))
    assert set(beside) == {"pole", "factor"} and not set(beside) & set(difference)
    fitted = Expansion.fit(tiny_backbone.text_features(job.dataset.prompts))
    assert beside["factor"].item() == pytest.approx(fitted.factor.item(), rel=1e-3)

    tuned = tiny_backbone.tuned(difference, text_map=Expansion(beside["pole"], beside["factor"]))
    others = PromptSet.from_templates(["whale", "spoon"], ["a drawing of a {c}."])
    texts = fitted(tiny_backbone.text_features(others))
    assert torch.allclose(tuned.text_features(others), texts, atol=2e-3)
    logits = tuned.logit_scale * F.normalize(tuned.encode_image(images), dim=-1) @ texts.T
    assert torch.allclose(tuned(images, others), logits, atol=0.05)
    assert (tuned(images, others) - tiny_backbone.tuned(difference)(images, others)).abs().max() > 0.1


def test_learned_prompts_on_a_tuned_model_are_moved_as_well(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    fitted = Expansion.fit(tiny_backbone.text_features(prompts))
    tuned, context = tiny_backbone.tuned({}, text_map=fitted), word_vectors(tiny_backbone)[None]
    plain = prompted_text_features(tiny_backbone, prompts, context)
    assert torch.allclose(prompted_text_features(tuned, prompts, context), fitted(plain), atol=1e-6)
    assert tiny_backbone.text_map is None and tuned.tuned({}).text_map is fitted
    assert tuned.text_digest not in (tiny_backbone.text_digest, tiny_backbone.tuned({}).text_digest)


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match="gauntlet train laat --backbone tiny"):
        LAAT(tiny_backbone)
