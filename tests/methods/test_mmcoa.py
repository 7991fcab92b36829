"""MMCoA: the loss by hand, both adversaries, what each switch changes, and the tuned text tower at inference."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.attacks.text.prompts import attack_sentences
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.attacks.text.sources.registry import build_source
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Batch as Samples
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.mmcoa.losses import contrastive
from vlm_gauntlet.methods.mmcoa.method import MMCoA
from vlm_gauntlet.methods.mmcoa.train import GAMMA, MMCoATraining, train
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.batch import Evaluation, run_batch
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch, InMemory
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
RULES = WordSwap(source="characters", candidates=4)
SHORT = (
    'epochs = 3\nbatch_size = 5\nschedule = { name = "constant" }\ntext = { source = "characters", candidates = 2 }\n'
    'optimiser = { name = "adam", learning_rate = 1e-3, betas = [0.9, 0.98], weight_decay = 0 }\n'
    'attack = { eps = "8/255", steps = 2, step_size = "8/255" }\n'
)


def batch_of(images: Tensor) -> Batch:
    return Batch({"images": images, "labels": LABELS}, tuple(range(6)))


def phase(eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": eps}
    adam = {"name": "adam", "learning_rate": 1e-3}
    return Phase(epochs=1, batch_size=6, optimiser=adam, attack=attack, text=RULES)


def training_of(backbone: Backbone, prompts: PromptSet, **deviations: str) -> MMCoATraining:
    training = MMCoATraining(backbone, prompts, deviations)
    make_optimiser(training, phase())
    return training


def gradient(training: MMCoATraining, images: Tensor) -> Tensor:
    """Of all weights after one loss, as one vector."""
    sum(training.loss(batch_of(images), phase()).values()).backward()
    return torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                      for p in training.weights.values()])  # fmt: skip


def test_the_loss_by_hand() -> None:
    """Scaled cosines (ln 3, 0), (0, 0): an image finds its text with 3/4 and 1/2, a text its image with 3/4 and 1/2 of
    the columns (ln 3, 0), (0, 0). In the second case the columns are (0, 0), (ln 3, 0): 1/2 and 1/4."""
    images, texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    scale = torch.tensor(math.log(3))
    rows = (math.log(4 / 3) + math.log(2)) / 2
    assert contrastive(images, texts, scale).item() == pytest.approx(rows)
    assert contrastive(images, texts, scale, symmetric=True).item() == pytest.approx(2 * rows)
    texts = texts.flip(0)
    rows, columns = (math.log(4) + math.log(2)) / 2, (math.log(2) + math.log(4)) / 2
    assert contrastive(images, texts, scale, symmetric=True).item() == pytest.approx(rows + columns)


def test_texts_that_stand_twice_compete() -> None:
    """Perfect features of the classes a, a, b: the least loss is (2 ln 2 + ln 1) / 3, not 0."""
    features = torch.eye(2)[[0, 0, 1]]
    assert contrastive(features, features, torch.tensor(100.0)).item() == pytest.approx(2 / 3 * math.log(2))


def test_the_gradient_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    images, texts = (torch.randn(3, 4, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    for symmetric in (False, True):
        assert gradcheck(lambda i, t, s, y=symmetric: contrastive(i, t, s, symmetric=y), (images, texts, scale))


def test_the_terms_are_the_papers(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """With eps = 0 the first term is that of the clean pairs; the second has the attacked sentences in their rows."""
    found = training_of(tiny_backbone, prompts).loss(batch_of(images), phase("0"))
    sentences = [group[0] for group in prompts.prompts]
    attacked = attack_sentences(sentences, tiny_backbone, prompts, RULES, build_source(RULES))
    assert any(s.positions for s in attacked)
    features = F.normalize(tiny_backbone.encode_image(images), dim=-1)
    for name, texts in (("image", sentences), ("text", [s.after for s in attacked])):
        read = F.normalize(tiny_backbone.encode_text([texts[i] for i in LABELS.tolist()]), dim=-1)
        by_hand = -(tiny_backbone.logit_scale * features @ read.T).log_softmax(1).diagonal().mean()
        assert found[name].item() == pytest.approx(0.5 * by_hand.item(), rel=1e-4), name
    assert GAMMA == 0.5
    assert training_of(tiny_backbone, prompts).loss(batch_of(images), phase())["image"] > found["image"]


def test_the_adversarial_text_follows_the_tower_that_is_trained(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    training = training_of(tiny_backbone, prompts)
    before = training._worst_sentences(training.sentences, RULES)
    with torch.no_grad():
        noise = torch.Generator().manual_seed(0)
        for name, p in training.weights.items():
            if name.startswith("clip.t"):
                p.add_(torch.randn(p.shape, generator=noise))
    assert training._worst_sentences(training.sentences, RULES) != before


def test_only_the_losses_reach_the_weights(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    training = training_of(tiny_backbone, prompts)
    terms = training.loss(batch_of(images), phase())
    assert all(p.grad is None for p in training.weights.values()), "an attack left some"
    sum(terms.values()).backward()
    assert all(p.grad is not None for p in training.weights.values()), "both towers, all of them"
    assert all(p.grad is None for p in tiny_backbone.parameters())


def test_a_term_alone_reaches_both_towers(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    for used in ("image", "text"):
        training = training_of(tiny_backbone, prompts, terms=used)
        terms = training.loss(batch_of(images), phase())
        assert set(terms) == {used}
        terms[used].backward()
        assert all(p.grad is not None for p in training.weights.values())
    both = training_of(tiny_backbone, prompts).loss(batch_of(images), phase())
    assert set(both) == {"image", "text"} and both["text"].item() == pytest.approx(terms["text"].item(), rel=1e-5)


def test_the_leak_adds_the_gradients_that_the_attack_climbed(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """The same images are found, and the gradient is larger by the attack's two; both towers get their share."""
    isolated, leaking = (training_of(tiny_backbone, prompts, attack_gradients=c) for c in ("isolated", "accumulated"))
    terms = [t.loss(batch_of(images), phase()) for t in (isolated, leaking)]
    assert terms[0]["image"].item() == pytest.approx(terms[1]["image"].item(), abs=1e-5)
    left = {name for name, p in leaking.weights.items() if p.grad is not None}
    assert left == set(leaking.weights)
    real, more = (gradient(training_of(tiny_backbone, prompts, attack_gradients=c), images)
                  for c in ("isolated", "accumulated"))  # fmt: skip
    leaked = torch.cat([p.grad.flatten() for p in leaking.weights.values()])
    assert torch.allclose(more, real + leaked, atol=1e-3 * more.abs().max().item()) and leaked.norm() > real.norm()


@pytest.mark.parametrize(
    ("switch", "changed"), [("inner_loss=class-texts", {"image"}), ("direction=symmetric", {"image", "text"})]
)
def test_each_switch_changes_its_terms(switch, changed, tiny_backbone: Backbone, prompts: PromptSet) -> None:
    images = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    name, choice = switch.split("=")
    found = [
        {n: t.item() for n, t in training_of(tiny_backbone, prompts, **d).loss(batch_of(images), phase()).items()}
        for d in ({}, {name: choice})
    ]
    assert {n for n in MMCoATraining.terms if found[0][n] != pytest.approx(found[1][n], rel=1e-5)} == changed


def test_deviations_change_the_recipe(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    plain = job_of("mmcoa", tmp_path).recipe
    coded = {"index_shift": "as_coded", "text_distance": "kl", "few_shots": "fresh"}
    (first,), (second,) = plain.phases, job_of("mmcoa", tmp_path, deviations=coded).recipe.phases
    assert (first.optimiser.learning_rate, first.optimiser.betas, first.optimiser.weight_decay) == (
        1e-6,
        (0.9, 0.98),
        0.2,
    )
    assert (float(first.budget.eps), first.budget.steps, first.text_rules.candidates) == (1 / 255, 10, 10)
    assert (first.text_rules.index_shift, first.text_rules.distance) == ("corrected", "squared")
    assert (second.text_rules.index_shift, second.text_rules.distance) == ("as_coded", "kl")
    assert not plain.fresh_shots and job_of("mmcoa", tmp_path, deviations=coded).recipe.fresh_shots
    for deviations in ({}, coded):
        small = job_of("mmcoa", tmp_path, wanted="miniclip-vit", deviations=deviations).recipe.phases[0]
        assert small.text_rules.source == "characters"
        assert small.optimiser.name == "adam" and small.optimiser.groups["tokens"].learning_rate == 0


def test_a_batch_cannot_be_split(tiny_backbone: Backbone, prompts: PromptSet, tmp_path: Path, job_of) -> None:
    (tmp_path / "parts.toml").write_text("accumulate = 2\n" + SHORT)
    with pytest.raises(GauntletError, match="the loss compares the samples of a batch"):
        train(job_of("mmcoa", tmp_path, wanted=str(tmp_path / "parts.toml")))


@pytest.fixture
def trained(tiny_backbone: Backbone, tmp_path: Path, monkeypatch, job_of: Callable[..., TrainingJob]) -> MMCoA:
    """By a short recipe, with two shots of each class; opened by the pin that was reported."""
    (tmp_path / "short.toml").write_text(SHORT)
    said: list[str] = []
    train(job_of("mmcoa", tmp_path, wanted=str(tmp_path / "short.toml"), shots=2, report=said.append))
    assert "--shots 2" in said[0]
    (tmp_path / "checkpoints.toml").write_text(said[0])
    monkeypatch.setattr("vlm_gauntlet.methods.own_checkpoint.inspect.getfile", lambda kind: str(tmp_path / "method.py"))
    return MMCoA(tiny_backbone)


def test_the_defence_reads_with_the_tuned_text_tower(
    trained: MMCoA, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    original, tuned = tiny_backbone.text_features(prompts), trained.tuned_backbone.text_features(prompts)
    assert not torch.allclose(original, tuned, atol=1e-3)
    expected = trained.tuned_backbone.logit_scale * F.normalize(trained.tuned_backbone.encode_image(images)) @ tuned.T
    assert torch.allclose(trained(images, prompts), expected, atol=1e-4)


def test_attacks_on_text_read_the_tuned_text_tower(trained: MMCoA, images: Tensor, prompts: PromptSet) -> None:
    undefended = method("undefended").build(trained.backbone)
    joint = protocol("joint-char-1-adaptive-linf-16-255")
    run = run_batch(Evaluation(trained, undefended, prompts, joint, 0), sample_of(images))
    rules = WordSwap.model_validate(joint.attack.parameters["text"])
    on_tuned, on_original = (
        attack_sentences([g[0] for g in prompts.prompts], tower, prompts, rules, build_source(rules))
        for tower in (trained.tuned_backbone, trained.backbone)
    )
    assert [s.objective_after for s in on_tuned] != [s.objective_after for s in on_original]
    changed = [s for s in on_tuned if s.positions][:3]
    assert all(f"{s.before!r} became {s.after!r}" in run.notes[0] for s in changed)


def sample_of(images: Tensor) -> Samples:
    return Samples(tuple("abcdef"), images, LABELS)


@pytest.mark.parametrize(("shots", "fresh"), [(1, False), (2, False), (2, True), (None, False)])
def test_shots(shots, fresh, tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    """24 pictures of five classes: 5 and 10 of them, or all; drawn again for each epoch as the code does."""
    job = job_of("mmcoa", tmp_path, shots=shots, deviations={"few_shots": "fresh"} if fresh else {})
    samples = job.samples()
    assert isinstance(samples, InMemory) and len(samples) == (5 * shots if shots else 24)
    firsts = [next(samples.batches(len(samples), epoch))["images"] for epoch in (0, 1)]
    one, other = ({bytes(i.numpy().tobytes()) for i in epoch} for epoch in firsts)
    assert (one != other) == fresh


@pytest.mark.parametrize("recipe", ["miniclip-vit", "miniclip-cnn", "reproduction"])
def test_the_switch_of_shots_trains_on_as_few_and_as_long(recipe, tmp_path: Path, job_of) -> None:
    """Of 35 classes with 13,000 pictures, or 200 with 6,000: as many steps as for all, within 5 %; 28 epochs."""
    classes, pictures = {"miniclip-vit": (35, 13_000), "miniclip-cnn": (200, 6_000), "reproduction": (1000, 1_280_000)}[
        recipe
    ]
    whole = job_of("mmcoa", tmp_path, wanted=recipe).recipe
    for shots in (1, 5):
        few = job_of("mmcoa", tmp_path, wanted=recipe, deviations={"shots": str(shots)}).recipe
        assert whole.shots is None and few.shots == shots
        if recipe == "reproduction":
            assert few.phases == whole.phases
        else:
            steps = [one.phases[0].length(n) for one, n in ((whole, pictures), (few, shots * classes))]
            assert steps[1] == pytest.approx(steps[0], rel=0.05)
