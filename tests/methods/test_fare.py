"""FARE: loss by hand, an attack without momentum in effect, labels unused, and what the loss says about cosines."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.attacks.balls import project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.fare.losses import embedding_distance
from vlm_gauntlet.methods.fare.method import FARE
from vlm_gauntlet.methods.fare.train import FARETraining, train
from vlm_gauntlet.training import adversary
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

KEYS = tuple(range(6))
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
NUMBERS = st.floats(-10, 10, width=64)


def phase(eps: str = "8/255", steps: int = 3) -> Phase:
    attack = {"eps": eps, "steps": steps, "step_size": "4/255"}
    return Phase(epochs=1, batch_size=6, optimiser={"name": "adamw", "learning_rate": 1e-3}, attack=attack)


def training_of(backbone: Backbone, prompts: PromptSet, **deviations: str) -> FARETraining:
    training = FARETraining(backbone, prompts, deviations)
    make_optimiser(training, phase())
    return training


def batch(images: Tensor, labels: Tensor = LABELS) -> Batch:
    return Batch({"images": images, "labels": labels}, KEYS)


def test_the_distance_is_a_sum_over_dimensions_and_a_mean_over_samples() -> None:
    """Differences (3, 4) and (0, 2): squares 25 and 4, mean 14.5; absolutes 7 and 2, mean 4.5."""
    features, original = torch.tensor([[4.0, 4.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 3.0]])
    assert embedding_distance(features, original).item() == 14.5
    assert embedding_distance(features, original, distance="l1").item() == 4.5
    made = torch.Generator().manual_seed(0)
    tuned, fixed = (torch.randn(3, 4, dtype=torch.float64, generator=made, requires_grad=True) for _ in range(2))
    assert gradcheck(embedding_distance, (tuned, fixed.detach()))


def test_embeddings_are_not_of_unit_length_and_the_original_sees_the_clean_image(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = training_of(tiny_backbone, prompts)
    assert training.loss(batch(images), phase("0"))["distance"] < 1e-9, "the tower starts where the original is"
    with torch.no_grad():
        for tensor in training.weights.values():
            tensor.mul_(1.05)
    clean, tuned = tiny_backbone.encode_image(images), training.student.encode_image(images)
    assert (clean.norm(dim=1) - 1).abs().min() > 0.1
    found = training.loss(batch(images), phase("0"))["distance"]
    assert found.item() == pytest.approx((tuned - clean).square().sum(1).mean().item(), rel=1e-5)
    assert training.loss(batch(images), phase())["distance"] > found


def test_no_label_and_no_text_is_looked_at(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    other = PromptSet.from_templates(["bird", "boat"], ["{c}"])
    one = training_of(tiny_backbone, prompts).loss(batch(images), phase())["distance"]
    two = training_of(tiny_backbone, other).loss(Batch({"images": images}, KEYS), phase())["distance"]
    assert torch.equal(one, two)


def test_only_the_loss_reaches_the_tower_and_nothing_the_original(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = training_of(tiny_backbone, prompts)
    loss = training.loss(batch(images), phase())["distance"]
    assert all(p.grad is None for p in training.weights.values()), "the attack leaves no gradient"
    loss.backward()
    assert sum(float(p.grad.norm()) for p in training.weights.values() if p.grad is not None) > 0
    assert all(p.grad is None for p in tiny_backbone.parameters())


@given(st.lists(st.lists(st.sampled_from([-3.0, -1e-30, 0.0, 1e-30, 2.0]), min_size=4, max_size=4), max_size=12))
def test_the_momentum_of_the_official_attack_is_void(gradients: list[list[float]]) -> None:
    """v = sign(0.9 v + sign(g)) is sign(g) wherever g is not 0, and stays where it is: exactly, since |0.9 v| < 1."""
    velocity = np.zeros(4)
    for gradient in map(np.array, gradients):
        before, velocity = velocity, np.sign(0.9 * velocity + np.sign(gradient))
        assert np.array_equal(velocity, np.where(gradient == 0, before, np.sign(gradient)))


def test_a_velocity_that_is_not_signed_again_is_another_attack() -> None:
    """Signs +, +, - give velocities 1, 1.9, 0.71: the third step still goes up, where FARE's goes down."""
    unsigned = signed = 0.0
    for sign in (1.0, 1.0, -1.0):
        unsigned, signed = 0.9 * unsigned + sign, np.sign(0.9 * signed + sign)
    assert np.sign(unsigned) == 1 and signed == -1


def test_the_official_loop_finds_the_same_images(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its loop written out, momentum included."""
    found: list[Tensor] = []
    monkeypatch.setattr(
        "vlm_gauntlet.methods.fare.train.worst_images",
        lambda *args: found.append(adversary.worst_images(*args)) or found[0],
    )
    training = training_of(tiny_backbone, prompts)
    training.loss(batch(images), phase())
    original, eps = tiny_backbone.encode_image(images), 8 / 255
    attacked = project(images + Draws(KEYS).uniform(images, -eps, eps), images, norm="linf", eps=eps)
    velocity = torch.zeros_like(images)
    for _ in range(3):
        inputs = attacked.requires_grad_()
        (training.student.encode_image(inputs) - original).square().sum(1).mean().backward(inputs=[inputs])
        velocity = (0.9 * velocity + inputs.grad.sign()).sign()
        attacked = project(inputs.detach() + 4 / 255 * velocity, images, norm="linf", eps=eps)
    assert (found[0] == attacked).float().mean() > 0.99


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))


vectors = arrays(np.float64, 3, elements=NUMBERS).filter(lambda v: np.linalg.norm(v) > 1e-2)


@given(vectors, vectors, vectors)
def test_what_the_loss_says_of_cosines(tuned: np.ndarray, original: np.ndarray, text: np.ndarray) -> None:
    """Theorem 3.1 with a factor of 2: |cos(v, t) - cos(u, t)| <= min(2 / ||u||, 2 / ||v||) ||v - u|| for any text t.

    Without that factor, min(1 / ||u||, 1 / ||v||) ||v - u||, it is false: see the next test. It follows from the
    tighter 2 ||v - u|| / (||u|| + ||v||), which holds too.
    """
    moved = abs(cosine(tuned, text) - cosine(original, text))
    lengths = np.linalg.norm(tuned), np.linalg.norm(original)
    distance = np.linalg.norm(tuned - original)
    assert moved <= 2 * distance / sum(lengths) + 1e-9
    assert moved <= min(2 / lengths[0], 2 / lengths[1]) * distance + 1e-9


def test_with_a_factor_of_one_the_theorem_is_false() -> None:
    """u = t of length 1 and v = -u / 10: the cosine moves by 2, the distance is 1.1, the smaller inverse length 1."""
    original = np.array([1.0, 0.0])
    tuned = -original / 10
    moved = abs(cosine(tuned, original) - cosine(original, original))
    assert moved == pytest.approx(2)
    assert min(1 / np.linalg.norm(original), 1 / np.linalg.norm(tuned)) * np.linalg.norm(tuned - original) < 1.1001


def test_unit_vectors_have_the_theorem_with_a_factor_of_one(images: Tensor, tiny_backbone: Backbone) -> None:
    """|cos(v, t) - cos(u, t)| = |(v - u) t| <= ||v - u|| where all have length 1; raw embeddings do not."""
    one, two = (F.normalize(tiny_backbone.encode_image(x), dim=-1) for x in (images, images.flip(3)))
    texts = F.normalize(torch.randn(50, one.shape[1], generator=torch.Generator().manual_seed(0)), dim=-1)
    assert ((one @ texts.T - two @ texts.T).abs() <= (one - two).norm(dim=1, keepdim=True) + 1e-6).all()


def test_deviations_change_the_recipe(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    coded = {"betas": "torch-default", "first_step": "peak"}
    plain, changed = (job_of("fare", tmp_path, deviations=d).recipe.phases[0] for d in ({}, coded))
    assert [p.optimiser.betas for p in (plain, changed)] == [(0.9, 0.95), (0.9, 0.999)]
    assert [p.schedule.rate(1e-5, 0, 20_000) for p in (plain, changed)] == [pytest.approx(1e-5 / 1400), 1e-5]
    assert [p.schedule.rate(1e-5, 1, 20_000) for p in (plain, changed)] == [pytest.approx(2e-5 / 1400)] * 2
    assert (plain.steps, plain.batch_size, plain.optimiser.weight_decay) == (20_000, 128, 1e-4)
    assert (float(plain.budget.eps), plain.budget.steps, float(plain.budget.step_size)) == (1 / 255, 10, 1 / 255)


@pytest.mark.parametrize("choice", ["squared-l2", "l1"])
def test_the_recipe_trains_on_small_data(choice: str, tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    """The laptop's recipe for two epochs of three batches: the distance under attack falls."""
    (tmp_path / "short.toml").write_text(
        f'base = "{Path(__file__).parents[2] / "methods/fare/recipes/miniclip-vit"}"\nsteps = 12\nbatch_size = 8\n'
        "schedule = { warmup = 1 }\n"
    )
    path = train(job_of("fare", tmp_path, wanted=str(tmp_path / "short.toml"), deviations={"distance": choice}))
    lines = path.with_name(f"{path.stem}.loss.csv").read_text().splitlines()[1:]
    losses = [float(line.split(",")[-1]) for line in lines]
    assert len(losses) == 12 and sum(losses[-3:]) < sum(losses[:3])


def test_without_a_checkpoint_the_cell_is_not_run(tiny_backbone: Backbone) -> None:
    with pytest.raises(UnavailableError, match="gauntlet train fare --backbone tiny"):
        FARE(tiny_backbone)
