"""The attacks on pairs in classification: whose tower is read, which prompts are scored, who falls."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.protocols import protocol, varied
from vlm_gauntlet.attacks.text.prompts import attacked_prompts
from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import load_backbone
from vlm_gauntlet.fixtures.datasets import Batch, dataset
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.batch import Evaluation, run_batch
from vlm_gauntlet.suites.journal import BatchResult

NAMES = ("co-attack", "sga", "dra")


def recipe(name: str, knowledge: str = "white-box", steps: int = 2) -> Protocol:
    return varied(protocol(f"{name}-char-1-{knowledge}-linf-4-255"), steps=steps)


def run(defence: str, backbone: Backbone, prompts: PromptSet, images: Tensor, how: Protocol) -> BatchResult:
    batch = Batch(tuple(f"s{i}" for i in range(len(images))), images, torch.arange(len(images)) % len(prompts))
    undefended = method("undefended").build(backbone)
    return run_batch(Evaluation(method(defence).build(backbone), undefended, prompts, how, 0), batch)


@pytest.mark.parametrize("name", NAMES)
def test_a_trained_model_falls(name: str) -> None:
    backbone, data = load_backbone("miniclip-vit"), dataset("digits")
    (batch,) = data.batches(limit=6, batch_size=6, size=backbone.image_size)
    undefended = method("undefended").build(backbone)
    result = run_batch(Evaluation(undefended, undefended, data.prompts, recipe(name, steps=10), 0), batch)
    clean, attacked = (sum(getattr(s, which) for s in result.samples) for which in ("clean", "attacked"))
    assert clean >= 3 > attacked
    assert not any(result.telemetry["repaired"])
    assert "undefended_gradient_norm" not in result.telemetry
    read = attacked_prompts(backbone, data.prompts, WordSwap(source="characters")).prompts
    assert any(read.digest[:16] in note for note in result.notes)


@pytest.mark.parametrize("name", NAMES)
def test_success_is_told_of_the_attacked_prompts(
    name: str, tiny_backbone: Backbone, prompts: PromptSet, images: Tensor
) -> None:
    result = run("undefended", tiny_backbone, prompts, images, recipe(name))
    assert [1 - s.attacked for s in result.samples] == list(result.telemetry["success"])


def test_white_box_needs_a_tower_and_transfer_does_not(
    tiny_backbone: Backbone, prompts: PromptSet, images: Tensor
) -> None:
    with pytest.raises(GauntletError, match="rn is more than a tower"):
        run("rn", tiny_backbone, prompts, images, recipe("sga"))
    assert len(run("rn", tiny_backbone, prompts, images, recipe("sga", "transfer")).samples) == len(images)


def test_no_budget_for_images_leaves_the_text_attack(
    tiny_backbone: Backbone, prompts: PromptSet, images: Tensor
) -> None:
    how = recipe("co-attack")
    still = how.model_copy(update={"threat": how.threat.model_copy(update={"eps": Fraction(0)})})
    text = protocol("text-char-1-white-box")
    one, other = (run("undefended", tiny_backbone, prompts, images, p) for p in (still, text))
    assert one.samples == other.samples
