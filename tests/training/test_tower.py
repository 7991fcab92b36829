"""Fine-tuning of both towers: what is trained, in which groups, and what the checkpoint holds of it."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.packing import unpack
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.checkpoint import packed_difference
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch, InMemory, as_bytes
from vlm_gauntlet.training.tower import BothTowersTraining, TowerTraining, train_tower
from vlm_gauntlet.training.trainer import fit

from .toy import recipe

ADAM = {"name": "adam", "learning_rate": 1e-3, "betas": (0.9, 0.98), "weight_decay": 0.2}


class Matching(BothTowersTraining):
    """Images are drawn to the sentences of their classes."""

    terms = ("distance",)

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        sentences = [self.prompts.prompts[i][0] for i in batch["labels"].tolist()]
        cosine = (self.student.encode_image(batch["images"]) * self.texts(sentences)).sum(1)
        return {"distance": -(self.student.logit_scale * cosine).mean()}


class ImageAlone(TowerTraining):
    """The same with the image tower alone."""

    terms = ("distance",)

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        return {"distance": -self.student(batch["images"], self.prompts).mean()}


def trained(kind: type[TowerTraining], base: Backbone, prompts: PromptSet, images: Tensor, **groups: float) -> Mapping:
    training = kind(base, prompts, {})
    data = InMemory({"images": as_bytes(images), "labels": torch.arange(6) % 5}, seed=0, digest="noise")
    optimiser = ADAM | {"groups": {name: {"learning_rate": rate} for name, rate in groups.items()}}
    fit(training, recipe(epochs=1, batch_size=6, optimiser=optimiser), data, None)
    return unpack(load(packed_difference(base.tunable(text=training.text), training.weights)))


def test_both_towers_move_and_the_base_stays(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    before = {n: p.clone() for n, p in tiny_backbone.named_parameters()}
    moved = trained(Matching, tiny_backbone, prompts, images)
    assert set(moved) == set(tiny_backbone.tunable(text=True))
    assert all(torch.equal(p, before[n]) for n, p in tiny_backbone.named_parameters())
    assert set(trained(ImageAlone, tiny_backbone, prompts, images)) == set(tiny_backbone.tunable())


def test_a_group_without_a_rate_stays_and_is_left_out(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    moved = trained(Matching, tiny_backbone, prompts, images, tokens=0.0, scale=0.0)
    assert set(tiny_backbone.tunable(text=True)) - set(moved) == {"clip.token_embedding.weight", "clip.logit_scale"}


def test_every_weight_is_in_one_group(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    groups = Matching(tiny_backbone, prompts, {}).groups("main")
    assert set(groups) == {"image", "scale", "text", "tokens"} and groups["scale"] == ["clip.logit_scale"]
    assert sorted(n for names in groups.values() for n in names) == sorted(tiny_backbone.tunable(text=True))


def test_sentences_are_read_as_the_tower_stands(tiny_backbone: Backbone, prompts: PromptSet) -> None:
    training = Matching(tiny_backbone, prompts, {})
    with torch.no_grad():
        first = training.texts(["a photo of a cat."])
        training.weights["clip.ln_final.bias"].add_(1.0)
        assert not torch.allclose(training.texts(["a photo of a cat."]), first, atol=1e-2)
    assert first.norm().item() == pytest.approx(1.0, abs=1e-5)
    training.weights["clip.ln_final.bias"].requires_grad_()
    assert training.texts(["a photo of a cat."]).requires_grad


def test_the_checkpoint_makes_the_student_again(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, tmp_path: Path, job_of
) -> None:
    file = tmp_path / "short.toml"
    adam = 'optimiser = { name = "adam", learning_rate = 1e-3, weight_decay = 0 }\n'
    file.write_text("epochs = 2\nbatch_size = 8\n" + adam)
    made: list[Matching] = []

    def make(*given: object) -> Matching:
        made.append(Matching(*given))
        return made[-1]

    path = train_tower(job_of("tecoa", tmp_path, wanted=str(file)), make)
    twin = tiny_backbone.tuned(unpack(load(path.read_bytes())))
    with torch.no_grad():
        assert torch.allclose(twin(images, prompts), made[0].student(images, prompts), atol=2e-3)
        assert not torch.allclose(twin(images, prompts), tiny_backbone(images, prompts), atol=2e-3)
