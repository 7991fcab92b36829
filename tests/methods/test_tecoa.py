"""TeCoA: the training objective against its definition, the trainer's resume, checkpoints that cannot be mixed up."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods import fine_tuning
from vlm_gauntlet.methods.checkpoints import load_checkpoint, pin_text, save_checkpoint
from vlm_gauntlet.methods.fine_tuning import Recipe, fine_tune
from vlm_gauntlet.methods.tecoa.method import TeCoA
from vlm_gauntlet.methods.tecoa.train import text_guided_adversarial_loss

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))


def objective(attack_gradients: str = "isolated", eps: float = 8 / 255):
    return text_guided_adversarial_loss(eps=eps, steps=2, step_size=eps, attack_gradients=attack_gradients)


def student_of(backbone: Backbone) -> Backbone:
    student = backbone.tuned({})
    student.clip.visual.requires_grad_(True)
    return student


def test_loss_is_cross_entropy_over_class_texts(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    student = student_of(tiny_backbone)
    clean = F.cross_entropy(student(images, prompts), LABELS)
    assert torch.allclose(objective(eps=0.0)(student, images, LABELS, prompts, KEYS), clean, atol=1e-5)
    assert objective()(student, images, LABELS, prompts, KEYS) > clean


def test_isolated_attack_leaves_the_parameters_gradients_alone(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """Sheet, TeCoA defect 6: gradients of the step must be those of the loss on the adversarial images alone."""
    norms = {}
    for choice in ("isolated", "accumulated"):
        student = student_of(tiny_backbone)
        loss = objective(choice)(student, images, LABELS, prompts, KEYS)
        before = [p.grad for p in student.clip.visual.parameters()]
        assert all(g is None for g in before) == (choice == "isolated")
        loss.backward()
        norms[choice] = sum(float(p.grad.norm()) for p in student.clip.visual.parameters())
    assert norms["accumulated"] > 1.2 * norms["isolated"], "in fp32 the contamination is as large as the gradient"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, images: Tensor) -> Recipe:
    bytes_ = (images * 255).round().to(torch.uint8)
    monkeypatch.setattr(fine_tuning, "load_training_set", lambda data, size: (bytes_, LABELS))
    return Recipe(epochs=4, batch_size=3, learning_rate=0.05, warmup=2, save_every=1)


class Data:
    digest = "training set"

    def __init__(self, prompts: PromptSet) -> None:
        self.prompts = prompts


def test_training_lowers_the_loss_and_resumes_to_the_same_weights(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, recipe: Recipe, tmp_path: Path
) -> None:
    data = Data(prompts)
    whole = fine_tune(tiny_backbone, data, objective(), recipe, tmp_path / "whole", progress=False)
    before = objective()(tiny_backbone.tuned({}), images, LABELS, prompts, KEYS)
    start = dict(tiny_backbone.clip.visual.named_parameters())
    after = objective()(tiny_backbone.tuned({n: w - start[n] for n, w in whole.items()}), images, LABELS, prompts, KEYS)
    assert after < before
    calls = 0

    def killed(*arguments: object) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return objective()(*arguments)

    with pytest.raises(KeyboardInterrupt):
        fine_tune(tiny_backbone, data, killed, recipe, tmp_path / "killed", progress=False)
    resumed = fine_tune(tiny_backbone, data, objective(), recipe, tmp_path / "killed", progress=False)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(GauntletError, match="another recipe"):
        fine_tune(tiny_backbone, data, objective(), replace(recipe, epochs=5), tmp_path / "killed", progress=False)


def test_checkpoint_round_trip_and_its_guards(tiny_backbone: Backbone, tmp_path: Path) -> None:
    tower = {n: p + 0.01 * torch.randn_like(p) for n, p in tiny_backbone.clip.visual.named_parameters()}
    pin = save_checkpoint(tmp_path / "tiny.safetensors", tiny_backbone, tower, "gauntlet train tecoa")
    (tmp_path / "checkpoints.toml").write_text(pin_text("tiny", pin))
    difference = load_checkpoint(tmp_path, "tiny", tiny_backbone, train_with="")
    for name, tensor in tiny_backbone.tuned(difference).clip.visual.named_parameters():
        assert torch.allclose(tensor, tower[name], atol=4e-4), name
    with pytest.raises(UnavailableError, match="train it"):
        load_checkpoint(tmp_path, "other", tiny_backbone, train_with="gauntlet train")
    other = tiny_backbone.tuned({})
    other.digest = "another"
    with pytest.raises(GauntletError, match="the backbone it was trained from"):
        load_checkpoint(tmp_path, "tiny", other, train_with="")
    (tmp_path / "tiny.safetensors").write_bytes(b"\0" * pin.size)
    with pytest.raises(GauntletError, match="SHA-256"):
        load_checkpoint(tmp_path, "tiny", tiny_backbone, train_with="")


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match="gauntlet train tecoa --backbone tiny"):
        TeCoA(tiny_backbone)
    with pytest.raises(UnavailableError, match=r"tiny\+learning_rate=parser-default"):
        TeCoA(tiny_backbone, {"learning_rate": "parser-default"})
