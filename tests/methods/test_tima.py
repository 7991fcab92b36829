"""TIMA: its losses by hand, which term reaches what, and the two versions apart."""

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
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.tima.losses import (
    distance_margins,
    hyperspherical_energy,
    kept_predictions,
    margin_cross_entropy,
    similarity_margins,
)
from vlm_gauntlet.methods.tima.method import TIMA
from vlm_gauntlet.methods.tima.text_map import TextMap
from vlm_gauntlet.methods.tima.train import MARGIN, TIMATraining, train
from vlm_gauntlet.training.checkpoint import load_checkpoint, set_apart
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))
SHORT = """
base = "reproduction"
epochs = 1
batch_size = 8
optimiser = { learning_rate = 0.05, groups = { text = { learning_rate = 1.0 } } }
schedule = { warmup = 0 }
"""
RECIPES = Path(__file__).parents[2] / "methods" / "tima" / "recipes"


def phase(eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": eps}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}, attack=attack)


def training_of(backbone: Backbone, prompts: PromptSet, **deviations: str) -> TIMATraining:
    training = TIMATraining(backbone, prompts, deviations)
    make_optimiser(training, phase())
    return training


def batch_of(images: Tensor) -> Batch:
    return Batch({"images": images, "labels": LABELS}, KEYS)


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def test_stable_energy_in_closed_form() -> None:
    """Cosines 0, -1, 0 of three texts at 0, 90 and 180 degrees: (1/3 + 1/5 + 1/3) / 3; raw, 1/2, 1/4, 1/2."""
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert hyperspherical_energy(texts).item() == pytest.approx((1 / 3 + 1 / 5 + 1 / 3) / 3)
    assert hyperspherical_energy(texts, floor=0).item() == pytest.approx((1 / 2 + 1 / 4 + 1 / 2) / 3)
    ends = [hyperspherical_energy(texts[pair]).item() for pair in ([0, 0], [0, 2])]
    assert ends == pytest.approx([1, 1 / 5])
    assert gradcheck(hyperspherical_energy, some(4, 3))


def test_the_raw_energy_explodes_where_two_texts_meet_and_the_stable_one_does_not() -> None:
    angle = torch.tensor(1e-2, dtype=torch.float64, requires_grad=True)
    texts = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.eye(2, dtype=torch.float64)[0]])
    raw, stable = (torch.autograd.grad(hyperspherical_energy(texts, f), angle, retain_graph=True)[0] for f in (0, 1))
    assert raw < -1e5 and abs(stable) < 0.1, "-2 / angle^3 against -2 angle"


def test_kept_predictions_are_a_divergence_from_a_constant_reference() -> None:
    """KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 ln(3/2) + 1/4 ln(1/2)."""
    reference, logits = torch.tensor([[math.log(3), 0.0]], requires_grad=True), torch.zeros(1, 2, requires_grad=True)
    loss = kept_predictions(reference, logits)
    assert loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    loss.backward()
    assert reference.grad is None and torch.allclose(logits.grad, torch.tensor([[-0.25, 0.25]]))
    assert gradcheck(lambda z: kept_predictions(some(2, 3, seed=1), z), some(2, 3))


def test_margins_of_both_versions_by_hand() -> None:
    """Texts at 0, 60 and 180 degrees: cosines 1/2, -1, -1/2; distances 1, 2, sqrt(3)."""
    angles = torch.tensor([0.0, 60.0, 180.0], dtype=torch.float64).deg2rad()
    texts = torch.stack([angles.cos(), angles.sin()], dim=1)
    expected = torch.tensor([[0, 0.75, 0], [0.75, 0, 0.25], [0, 0.25, 0]], dtype=torch.float64)
    assert torch.allclose(similarity_margins(texts, 0.2), 0.2 * expected, atol=1e-9)
    far = 1 - 3**0.5 / 2
    expected = torch.tensor([[0, 0.5, 0], [0.5, 0, far], [0, far, 0]], dtype=torch.float64)
    assert torch.allclose(distance_margins(texts, 0.2), 0.2 * expected, atol=1e-7)


def test_the_margin_is_added_to_the_other_classes() -> None:
    """Cosines equal, margin 0.1 of class 1 against class 0, scale ln(3) / 0.1: the other class has 3/4."""
    margins = torch.tensor([[0.0, 0.3], [0.1, 0.0]])
    loss = margin_cross_entropy(torch.full((1, 2), 0.4), torch.tensor([1]), margins, math.log(3) / 0.1)
    assert loss.item() == pytest.approx(math.log(4))
    assert gradcheck(lambda z: margin_cross_entropy(z, torch.tensor([1, 0]), margins.double(), 2.0), some(2, 2))


def test_terms_at_the_start(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Nothing is tuned yet: consistency and distillation are 0, and the margin term is cross-entropy with margins."""
    texts, scale = tiny_backbone.text_features(prompts), tiny_backbone.logit_scale
    cosines = F.normalize(tiny_backbone.encode_image(images), dim=-1) @ texts.T
    terms = training_of(tiny_backbone, prompts, version="arxiv-2024").loss(batch_of(images), phase("0"))
    assert terms["consistency"].item() == pytest.approx(0, abs=1e-5)
    assert terms["distillation"].item() == pytest.approx(0, abs=1e-5)
    assert terms["energy"].item() == pytest.approx(hyperspherical_energy(texts).item())
    expected = margin_cross_entropy(cosines, LABELS, distance_margins(texts, MARGIN), scale)
    assert terms["margin"].item() == pytest.approx(expected.item(), abs=1e-4)
    assert expected > F.cross_entropy(scale * cosines, LABELS)


def test_the_versions_differ_in_margin_and_distillation(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    second, first = (training_of(tiny_backbone, prompts, version=v) for v in ("aaai-2026", "arxiv-2024"))
    texts = tiny_backbone.text_features(prompts)
    assert torch.equal(second.margins, similarity_margins(texts, MARGIN))
    assert torch.equal(first.margins, distance_margins(texts, MARGIN))
    later, earlier = (training.loss(batch_of(images), phase()) for training in (second, first))
    assert list(later) == ["margin", "energy", "consistency"] and list(earlier) == [*later, "distillation"]
    assert later["margin"] != earlier["margin"] and later["energy"] == earlier["energy"]


@pytest.mark.parametrize("tuned_text", ["map", "table"])
def test_each_term_reaches_its_own_side(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, tuned_text: str
) -> None:
    """Margin and distillation reach the tower alone, energy and consistency the texts alone."""
    training = training_of(tiny_backbone, prompts, version="arxiv-2024", tuned_text=tuned_text)
    with torch.no_grad():
        for tensor in training.weights.values():  # away from the start, where two terms are at their least
            tensor += 0.05 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2))
    terms = training.loss(batch_of(images), phase())
    assert all(p.grad is None for p in training.weights.values()), "the attack leaves no gradient"
    groups = training.groups("main")
    for name, term in terms.items():
        found = {}
        for group, members in groups.items():
            inputs = [training.weights[m] for m in members]
            gradients = torch.autograd.grad(term, inputs, retain_graph=True, allow_unused=True)
            found[group] = sum(float(g.norm()) for g in gradients if g is not None)
        reached, untouched = ("image", "text") if name in ("margin", "distillation") else ("text", "image")
        assert found[reached] > 0 and found[untouched] == 0, name
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_energy_moves_texts_apart_and_consistency_holds_them(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    training = training_of(tiny_backbone, prompts)
    before = hyperspherical_energy(training.texts())
    (gradient,) = torch.autograd.grad(hyperspherical_energy(training.texts()), training.map.shift)
    moved = TextMap(-0.1 * gradient)(training.original)
    assert hyperspherical_energy(moved) < before
    assert torch.allclose(moved.norm(dim=-1), torch.ones(5), atol=1e-6)


@pytest.mark.parametrize("tuned_text", ["map", "table"])
def test_the_checkpoint_moves_the_texts_of_other_classes_or_leaves_them(
    tiny_backbone: Backbone, images: Tensor, tmp_path: Path, job_of: Callable[..., TrainingJob], tuned_text: str
) -> None:
    (tmp_path / "reproduction.toml").write_text((RECIPES / "reproduction.toml").read_text())
    (tmp_path / "short.toml").write_text(SHORT)
    said: list[str] = []
    chosen = {} if tuned_text == "map" else {"tuned_text": "table"}
    job = job_of("tima", tmp_path, wanted=str(tmp_path / "short.toml"), report=said.append, deviations=chosen)
    train(job)
    (tmp_path / "checkpoints.toml").write_text(said[0])
    difference, beside = set_apart(load_checkpoint(tmp_path, job.path.stem, tiny_backbone, train_with=""))
    others = PromptSet.from_templates(["whale", "spoon"], ["a drawing of a {c}."])
    assert not any(name.startswith("text.") for name in difference)
    if tuned_text == "table":
        assert not beside
        return
    assert beside["shift"].abs().max() > 1e-4
    tuned = tiny_backbone.tuned(difference, text_map=TextMap(beside["shift"]))
    assert (tuned.text_features(others) - tiny_backbone.text_features(others)).abs().max() > 1e-4


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match="gauntlet train tima --backbone tiny"):
        TIMA(tiny_backbone)
