"""HPT-GPD: KL to two teachers by hand, who teaches when, and the observation on two models."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.hpt_gpd import train as trainer
from vlm_gauntlet.methods.hpt_gpd.losses import taught
from vlm_gauntlet.methods.hpt_gpd.method import HPTGPD
from vlm_gauntlet.methods.hpt_gpd.proxy_robustness import ProxyRobustness, proxy_robustness
from vlm_gauntlet.methods.hpt_gpd.train import HPTTraining
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
KEYS = tuple(range(6))


@pytest.fixture(scope="module")
def proxy(tiny_backbone: Backbone) -> Backbone:
    """Another architecture, with a scale of its own and another input size."""
    torch.manual_seed(7)
    clip = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 24, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
        text_cfg={"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    )
    clip.logit_scale.data.fill_(math.log(20))
    half = (0.5, 0.5, 0.5)
    return Backbone(clip, tiny_backbone.tokenize, name="other", image_size=24, mean=half, std=half, digest="other")


def phase(name: str, eps: str = "8/255") -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": "4/255"}
    return Phase(name=name, epochs=1, batch_size=6, optimiser={"name": "sgd", "learning_rate": 0.1}, attack=attack)


@pytest.fixture
def batch(images: Tensor) -> Batch:
    return Batch({"images": images, "labels": LABELS}, KEYS)


def test_the_teacher_is_the_first_argument_of_kl() -> None:
    """Teachers (3/4, 1/4) and (1/2, 1/2), student (1/2, 1/2): 3/4 ln(3/2) + 1/4 ln(1/2) and 0; their mean."""
    teacher = torch.tensor([[math.log(3), 0.0], [1.0, 1.0]])
    by_hand = (0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2
    assert taught(torch.zeros(2, 2), teacher).item() == pytest.approx(by_hand)
    generator = torch.Generator().manual_seed(0)
    some = [torch.randn(2, 3, generator=generator, dtype=torch.float64) for _ in range(2)]
    assert gradcheck(taught, (some[0].requires_grad_(), some[1]))
    (wanted,) = torch.autograd.grad(taught(some[0], some[1].requires_grad_()), some[1], allow_unused=True)
    assert wanted is None, "a teacher learns nothing"


def test_who_teaches_in_which_phase(tiny_backbone: Backbone, proxy: Backbone, prompts: PromptSet, batch: Batch) -> None:
    """With eps = 0 the student is the anchor, whose term is 0; the proxy's is KL between both models' cosines."""
    training = HPTTraining(tiny_backbone, prompts, {}, proxy)
    assert list(training.loss(batch, phase("anchored", "0"))) == ["anchor"]
    terms = training.loss(batch, phase("pulled", "0"))
    assert terms["anchor"].item() == pytest.approx(0, abs=1e-6)
    cosines = [F.normalize(m.encode_image(batch["images"]), dim=-1) @ m.text_features(prompts).T
               for m in (proxy, tiny_backbone)]  # fmt: skip
    teacher, student = (c.softmax(-1) for c in cosines)
    by_hand = (teacher * (teacher / student).log()).sum(1).mean()
    assert terms["proxy"].item() == pytest.approx(by_hand.item(), abs=1e-6)
    assert training.loss(batch, phase("anchored"))["anchor"] > 1e-6, "of attacked images against clean ones"


def test_each_switch_changes_what_it_should(
    tiny_backbone: Backbone, proxy: Backbone, prompts: PromptSet, batch: Batch
) -> None:
    def terms(**deviations: str) -> dict[str, Tensor]:
        return HPTTraining(tiny_backbone, prompts, deviations, proxy).loss(batch, phase("pulled"))

    equal, little, scaled = terms(), terms(pull="v1"), terms(logits="scaled")
    first = HPTTraining(tiny_backbone, prompts, {}, proxy).loss(batch, phase("anchored"))["anchor"]
    assert equal["anchor"].item() == pytest.approx(first.item(), rel=1e-5) and first > 1e-6, "as heavy in both phases"
    assert little["anchor"].item() == pytest.approx(0.001 * equal["anchor"].item(), rel=1e-5)
    assert little["proxy"].item() == pytest.approx(equal["proxy"].item(), rel=1e-5)
    assert scaled["proxy"] > 5 * equal["proxy"], "a scale above one makes the classes unequal"


def test_only_the_targets_tower_learns(
    tiny_backbone: Backbone, proxy: Backbone, prompts: PromptSet, batch: Batch
) -> None:
    training = HPTTraining(tiny_backbone, prompts, {}, proxy)
    make_optimiser(training, phase("pulled"))
    loss = training.loss(batch, phase("pulled"))
    assert all(w.grad is None for w in training.weights.values()), "the attack leaves nothing"
    sum(loss.values()).backward()
    assert all(w.grad is not None for w in training.weights.values())
    assert all(p.grad is None for model in (tiny_backbone, proxy) for p in model.parameters())


def test_recipes_have_two_phases_or_one(tmp_path: Path, job_of: Callable[..., TrainingJob]) -> None:
    """v1: rate 5e-5 on a sum over 256 pictures is 1.28e-2 on their mean; PGD-5, eps 2/255, step 1/255."""
    two, one = (job_of("hpt_gpd", tmp_path, deviations=d).recipe.phases for d in ({}, {"gpd": "one-phase"}))
    assert [(p.name, p.optimiser.learning_rate) for p in two] == [("anchored", 256 * 5e-5), ("pulled", 256 * 5e-2)]
    assert [(p.name, p.optimiser.learning_rate, p.epochs) for p in one] == [("pulled", 256 * 5e-5, 10)]
    assert {(float(p.budget.eps), p.budget.steps, float(p.budget.step_size)) for p in (*two, *one)} == {
        (2 / 255, 5, 1 / 255)
    }


def test_a_tower_is_trained_and_found(
    tiny_backbone: Backbone, proxy: Backbone, tmp_path: Path, job_of: Callable[..., TrainingJob],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recipe = tmp_path / "short.toml"
    recipe.write_text(
        'batch_size = 8\noptimiser = { name = "sgd", learning_rate = 1.0 }\n'
        'attack = { eps = "8/255", steps = 1, step_size = "8/255" }\n'
        '[[phases]]\nname = "anchored"\nsteps = 2\n[[phases]]\nname = "pulled"\nsteps = 2\n'
    )
    job = job_of("hpt_gpd", tmp_path, wanted=str(recipe))
    with pytest.raises(GauntletError, match="backbone with a proxy"):
        trainer.train(job)
    monkeypatch.setitem(trainer.PROXIES, "tiny", "other")
    monkeypatch.setattr(trainer, "load_backbone", lambda name, device: proxy)
    assert trainer.train(job).stat().st_size > 1000
    curve = (tmp_path / "tiny.loss.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in curve] == ["phase", "anchored", "anchored", "pulled", "pulled"]
    with pytest.raises(UnavailableError, match="gauntlet train hpt_gpd"):
        HPTGPD(tiny_backbone)


def test_a_model_withstands_what_was_made_against_another(
    tiny_backbone: Backbone, proxy: Backbone, prompts: PromptSet, images: Tensor
) -> None:
    """Labels are the models' own answers, so that both are right of clean images; of oneself nothing is kept."""
    twin = copy.copy(tiny_backbone)
    with torch.no_grad():
        labels = tiny_backbone(images, prompts).argmax(1)
        agreed = int((proxy(images, prompts).argmax(1) == labels).sum())
    own = proxy_robustness(tiny_backbone, twin, images, labels, prompts, eps=32 / 255)
    other = proxy_robustness(tiny_backbone, proxy, images, labels, prompts, eps=32 / 255)
    assert (own.source_clean, own.proxy_clean, other.proxy_clean) == (6, 6, agreed)
    assert own.source_attacked == own.proxy_attacked == other.source_attacked < 6
    assert ProxyRobustness(6, 6, 0, 4, 3).kept == 0.75


def test_the_proxy_is_asked_about_the_attacked_images(
    tiny_backbone: Backbone, proxy: Backbone, prompts: PromptSet, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Tensor] = []
    encode = proxy.encode_image
    monkeypatch.setattr(proxy, "encode_image", lambda x: (given.append(x.detach()), encode(x))[1])
    HPTTraining(tiny_backbone, prompts, {}, proxy).loss(batch, phase("pulled"))
    (seen,) = given
    distance = (seen - batch["images"]).abs()
    assert 4 / 255 < distance.max() <= 8 / 255 + 1e-6 and distance.mean() > 2 / 255
