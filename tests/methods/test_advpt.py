"""AdvPT: what the bank is made of, that nothing but the context learns from it, and what its losses are by hand."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.advpt.bank import attacked_images, bank
from vlm_gauntlet.methods.advpt.losses import embedding_divergence, on_bank
from vlm_gauntlet.methods.advpt.method import AdvPT
from vlm_gauntlet.methods.advpt.train import BankTraining, banked, text_length, train
from vlm_gauntlet.methods.learned_context import LearnedContext
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Budget, Phase, read_recipe
from vlm_gauntlet.training.samples import Batch, InMemory, as_bytes
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))
NAMES = ("cat", "dog", "ship", "tree", "cup")
BUDGET = Budget(eps="8/255", steps=3, step_size="4/255")
RECIPES = Path(__file__).parents[2] / "methods" / "advpt" / "recipes"


def some(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def training_of(backbone: Backbone, prompts: PromptSet) -> BankTraining:
    start = LearnedContext.untrained(backbone, 4, NAMES, each=False, middle=False, seed=0)
    training = BankTraining(backbone, start, prompts)
    phase = Phase(epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1})
    make_optimiser(training, phase)
    return training


def test_the_divergence_is_over_dimensions_by_hand() -> None:
    """softmax(0, 0) = (1/2, 1/2), softmax(0, ln 3) = (1/4, 3/4): KL = ln(2)/2 + ln(2/3)/2 = 0.1438; of equals, 0."""
    clean, attacked = torch.zeros(2, 2), torch.tensor([[0.0, math.log(3)], [1.0, 1.0]])
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert embedding_divergence(clean, attacked).tolist() == pytest.approx([expected, 0.0], abs=1e-6)
    assert gradcheck(lambda a: embedding_divergence(some(2, 3).detach(), a), 2 * some(2, 3))


def test_the_loss_on_the_bank_by_hand() -> None:
    """Probabilities 3/4 and 1/2 of the true classes: (ln 4/3 + ln 2) / 2."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    assert on_bank(logits, torch.tensor([1, 0])).item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)
    assert gradcheck(lambda z: on_bank(z, torch.tensor([1, 0])), some(2, 3))


def test_the_attack_starts_on_the_positive_side_and_goes_up(tiny_backbone: Backbone, images: Tensor) -> None:
    start = attacked_images(tiny_backbone, images, KEYS, Budget(eps="8/255", steps=0, step_size="0"))
    assert (start >= images).all() and (start - images).max() <= 8 / 255 + 1e-6 and (start - images).mean() > 3 / 255
    found = attacked_images(tiny_backbone, images, KEYS, BUDGET)
    assert (found - images).abs().max() <= 8 / 255 + 1e-6 and found.min() >= 0 and found.max() <= 1
    assert (found < images).any()
    clean, first, last = (tiny_backbone.encode_image(x) for x in (images, start, found))
    assert (embedding_divergence(clean, last) > embedding_divergence(clean, first)).all()
    assert torch.equal(attacked_images(tiny_backbone, images, KEYS, Budget(eps="0", steps=3, step_size="0")), images)


def test_the_bank_knows_no_prompt_and_its_digest_knows_the_attack(tiny_backbone: Backbone, images: Tensor) -> None:
    """Oblivious: pictures, backbone, budget and seed make it. A bank of another radius is another one."""
    pictures = InMemory({"images": as_bytes(images), "labels": LABELS}, seed=0, digest="noise")
    one, again = banked(tiny_backbone, pictures, BUDGET), banked(tiny_backbone, pictures, BUDGET)
    wider = banked(tiny_backbone, pictures, Budget(eps="16/255", steps=3, step_size="4/255"))
    assert torch.equal(one.tensors["features"], again.tensors["features"]) and one.digest == again.digest
    assert not torch.equal(one.tensors["features"], wider.tensors["features"]) and one.digest != wider.digest
    seeded = bank(tiny_backbone, as_bytes(images), BUDGET, seed=1)
    assert not torch.equal(one.tensors["features"], seeded)
    assert not one.tensors["features"].requires_grad and one.tensors["features"].shape == (6, 16)
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_only_the_context_learns(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """Written out: cosines of the bank and of the prompted classes; the image tower is not asked again."""
    training = training_of(tiny_backbone, prompts)
    features = bank(tiny_backbone, as_bytes(images), BUDGET, seed=0)
    passes = tiny_backbone.passes.forward
    loss = training.loss(Batch({"features": features, "labels": LABELS}, KEYS), Phase(
        epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}))["bank"]  # fmt: skip
    weights = training.learned.class_weights(tiny_backbone, prompts)
    logits = tiny_backbone.logit_scale * (features / features.norm(dim=1, keepdim=True)) @ weights.T
    assert torch.allclose(loss, -logits.log_softmax(1)[range(6), LABELS].mean(), atol=1e-5)
    loss.backward()
    assert training.learned.vectors.grad.abs().max() > 0
    assert tiny_backbone.passes.forward == passes and all(p.grad is None for p in tiny_backbone.parameters())


def test_a_trained_context_is_shorter_on_the_bank(
    tmp_path: Path, tiny_backbone: Backbone, job_of: Callable[..., TrainingJob]
) -> None:
    (tmp_path / "short.toml").write_text(
        "epochs = 20\nbatch_size = 5\nshots = 3\noptimiser = { name = 'sgd', learning_rate = 0.05, momentum = 0.9 }\n"
        "attack = { eps = '8/255', steps = 1, step_size = '8/255' }\n"
    )
    path = train(job_of("advpt", tmp_path, wanted=str(tmp_path / "short.toml")))
    assert path.name == "tiny.safetensors" and text_length(tiny_backbone) == 16
    assert load_file(path)["context"].shape == (8, 16), "half of what its text tower reads"
    lines = path.with_name("tiny.loss.csv").read_text().splitlines()[1:]
    losses = [float(line.split(",")[3]) for line in lines]
    assert sum(losses[-6:]) < sum(losses[:6])


def test_the_papers_recipe_and_what_its_flag_does_at_head() -> None:
    paper, head = (read_recipe(RECIPES / "reproduction.toml", d).phases[0] for d in ({}, {"bank": "clean"}))
    assert (paper.epochs, paper.batch_size, paper.budget.steps) == (100, 32, 10)
    assert float(paper.budget.step_size) == pytest.approx(1.25 * float(paper.budget.eps) / 10)
    assert float(head.budget.eps) == 0


def test_the_clean_bank_is_another_checkpoint(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    recipe = (RECIPES / "reproduction.toml").read_text().replace("= 100", "= 1").replace("= 32", "= 8")
    (tmp_path / "short.toml").write_text(recipe)
    made = []
    for chosen in ({}, {"bank": "clean"}):
        path = train(job_of("advpt", tmp_path, wanted=str(tmp_path / "short.toml"), deviations=chosen))
        made.append(load_file(path)["context"])
    assert path.name == "tiny+bank=clean.safetensors" and not torch.equal(*made)


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match="gauntlet train advpt --backbone tiny"):
        AdvPT(tiny_backbone)
