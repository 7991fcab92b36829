"""DART: its losses by hand, the frozen teacher, and which pictures are source and target."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.dart import domains as rooms
from vlm_gauntlet.methods.dart import train as trainer
from vlm_gauntlet.methods.dart.losses import distilled, shift
from vlm_gauntlet.methods.dart.train import TEACHER, DARTTraining
from vlm_gauntlet.methods.listed import HERE as METHODS
from vlm_gauntlet.suites.tiers import tier
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.miniclip.corpus import Corpus
from vlm_gauntlet.training.miniclip.emoji import Concept, Drawing
from vlm_gauntlet.training.recipe import Phase, Recipe
from vlm_gauntlet.training.samples import Batch, InMemory, as_bytes
from vlm_gauntlet.training.trainer import fit, make_optimiser

KEYS = tuple(range(6))


def phase(name: str, eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": "4/255"}
    return Phase(name=name, steps=2, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.05}, attack=attack)


@pytest.fixture
def tensors(images: Tensor) -> dict[str, Tensor]:
    return {"images": images, "target": images.flip(0), "labels": torch.tensor([0, 1, 2, 3, 4, 0])}


def test_losses_by_hand() -> None:
    """Means (1, 0) and (0, 1) are sqrt 2 apart. Teacher (3/4, 1/4), student (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2."""
    one, other = torch.tensor([[2.0, 0.0], [5.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    assert shift(one, other).item() == pytest.approx(2)
    assert shift(one, 7 * one).item() == pytest.approx(0, abs=1e-6), "lengths do not matter"
    teacher = torch.tensor([[math.log(3), 0.0]])
    assert distilled(torch.zeros(1, 2), teacher).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    assert gradcheck(shift, (a, b)) and gradcheck(lambda s: distilled(s, b), a)


def test_each_phase_has_its_terms(tiny_backbone: Backbone, prompts: PromptSet, tensors: dict[str, Tensor]) -> None:
    training, batch = DARTTraining(tiny_backbone, prompts, {}), Batch(tensors, KEYS)
    assert {name: list(training.loss(batch, phase(name))) for name in ("adapt", "robustify", "entangled")} == {
        "adapt": ["source", "shift"], "robustify": ["clean", "robust"], "entangled": ["source", "shift"],
    }  # fmt: skip
    terms = training.loss(batch, phase("robustify"))
    assert terms["clean"].abs() < 1e-6 < terms["robust"], "student = teacher so far"
    plain, attacked = (training.loss(batch, phase(name))["source"] for name in ("adapt", "entangled"))
    assert attacked > plain
    labels = dict(tensors) | {"labels": tensors["labels"].flip(0)}
    again = training.loss(Batch(labels, KEYS), phase("robustify"))
    assert again["robust"].item() == pytest.approx(terms["robust"].item()), "no label in the second phase"


def test_the_teacher_is_the_adapted_student_and_stays(
    tiny_backbone: Backbone, prompts: PromptSet, tensors: dict[str, Tensor]
) -> None:
    training = DARTTraining(tiny_backbone, prompts, {})
    as_bytes = {n: (t * 255).round().to(torch.uint8) if t.is_floating_point() else t for n, t in tensors.items()}
    start = {n: p.clone() for n, p in training.tower.items()}
    data = InMemory(as_bytes, seed=0, digest="noise")
    fit(training, Recipe(phases=(phase("adapt"),)), data, None)
    adapted = {n: p.clone() for n, p in training.tower.items()}
    assert all(torch.equal(training.weights[TEACHER + n], p) for n, p in adapted.items())
    assert any(not torch.equal(start[n], p) for n, p in adapted.items())
    fit(training, Recipe(phases=(phase("robustify"),)), data, None)
    assert all(torch.equal(training.weights[TEACHER + n], p) for n, p in adapted.items())
    assert any(not torch.equal(training.tower[n], p) for n, p in adapted.items())
    assert set(training.groups("robustify")["all"]) == set(adapted)


def test_gradients_reach_the_student_alone(
    tiny_backbone: Backbone, prompts: PromptSet, tensors: dict[str, Tensor]
) -> None:
    training = DARTTraining(tiny_backbone, prompts, {})
    make_optimiser(training, phase("robustify"))
    loss = training.loss(Batch(tensors, KEYS), phase("robustify"))
    assert all(w.grad is None for w in training.weights.values())
    sum(loss.values()).backward()
    assert {n for n, w in training.weights.items() if w.grad is not None} == set(training.tower)


def test_the_target_shows_no_tested_concept_and_only_the_held_out_style(monkeypatch: pytest.MonkeyPatch) -> None:
    """Owl, train and Twemoji; hawk, tested in Twemoji, and its other Twemoji; a keycap in Twemoji; a garment."""
    groups = {"owl": "bird", "hawk": "bird", "coat": "garment", "keycap": "keycap"}
    concepts = [Concept(name, (name,), group) for name, group in groups.items()]
    shown = [
        ("owl", "noto"),
        ("owl", "twemoji"),
        ("hawk", "twemoji"),
        ("hawk", "twemoji"),
        ("keycap", "twemoji"),
        ("owl", "noto"),
    ]
    roles = ["train", "aside", "emoji_groups_twemoji", "aside", "aside", "aside", "train"]
    rows = np.arange(7, dtype=np.uint8)[:, None, None, None].repeat(40, 1).repeat(40, 2).repeat(4, 3) * 30
    rows[..., 3] = 255
    corpus = Corpus(concepts, rows, np.array([0, 0, 1, 1, 3, 0, 2]), np.array(roles))
    monkeypatch.setattr(rooms.corpora, "read_corpus", lambda *_: corpus)
    monkeypatch.setattr(rooms.emoji, "read_drawings", lambda _: [Drawing(c, s, Path()) for c, s in shown])
    images, labels, target = rooms.styles(Path(), 0)
    assert (images.shape, labels.tolist()) == ((1, 3, 32, 32), [rooms.CLASSES["emoji_groups"].index("bird")])
    assert images.unique().tolist() == [0] and target.unique().tolist() == [30]


def test_other_backbones_have_no_domains_here(tmp_path: Path, job_of) -> None:
    with pytest.raises(GauntletError, match="domains for 'tiny' from 'noise'"):
        trainer.train(job_of("dart", tmp_path))


@pytest.fixture
def photos(tmp_path: Path, training_set: Path) -> Path:
    """24 pictures, and beside them as many that pass for cartoons."""
    for name in ("pacs_photo", "pacs_cartoon"):
        shutil.copytree(training_set, tmp_path / name)
        (tmp_path / name / "train").rename(tmp_path / name / "test")
    return tmp_path / "pacs_photo"


def test_what_a_run_is_asked_about_is_not_trained_on(
    photos: Path, monkeypatch: pytest.MonkeyPatch, job_of: Callable[..., TrainingJob]
) -> None:
    assert tier("domains").limit <= rooms.HELD_OUT and set(tier("domains").datasets) <= set(rooms.TARGETS.values())
    job = replace(job_of("dart", photos.parent, wanted="miniclip-cnn"), data=photos)
    with pytest.raises(GauntletError, match="of 24 pictures"):
        rooms.domains(job)
    monkeypatch.setattr(rooms, "HELD_OUT", 20)
    prompts, tensors = rooms.domains(job)
    asked = next(Dataset("x", photos.with_name("pacs_cartoon")).batches(limit=24, batch_size=24, size=16))
    assert torch.equal(tensors["target"], as_bytes(asked.images[20:])) and tensors["images"].shape == (4, 3, 16, 16)
    assert torch.equal(tensors["labels"], asked.labels[20:]) and prompts == Dataset("x", photos).prompts
    (photos / "classnames.txt").write_text("a\nb\nc\nd\ne\n")
    with pytest.raises(GauntletError, match="other classes"):
        rooms.domains(job)


def test_natural_domains_train(
    photos: Path, monkeypatch: pytest.MonkeyPatch, job_of: Callable[..., TrainingJob]
) -> None:
    monkeypatch.setattr(rooms, "HELD_OUT", 20)
    recipe = photos.parent / "short.toml"
    recipe.write_text(f'base = "{METHODS / "dart" / "recipes/miniclip-cnn"}"\nbatch_size = 2\n')
    job = replace(job_of("dart", photos.parent, wanted=str(recipe), epochs=1), data=photos)
    lines = trainer.train(job).with_name("tiny.loss.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["adapt"] * 2 + ["robustify"] * 2
