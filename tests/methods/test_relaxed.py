"""What defences offer as `relaxed`: alive, cheaper than the surrogate, and no part of their answers."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.prompt_tuning import initial_prompts
from vlm_gauntlet.methods.registry import method, methods

PROMPTS = PromptSet.from_templates(["cat", "dog", "ship"], ["a picture of a {}"])
OFFERING = ("cola+bank=templates", "hd", "r_tpt+views=16", "t_vss+views=16", "tpt+views=16")


def test_who_offers_one() -> None:
    offering = {name for name, kind in methods().items() if kind.offers("relaxed")}
    assert offering >= {"cola", "hd", "r_tpt", "t_vss", "tpt"}


@pytest.mark.parametrize("name", OFFERING)
def test_a_relaxed_form_has_a_gradient_at_no_more_passes(name: str, tiny_backbone: Backbone, images: Tensor) -> None:
    defence, spent = method(name).build(tiny_backbone), {}
    draws = tuple(range(len(images)))
    before = defence(images, PROMPTS, draws=Draws(draws))
    for way in ("relaxed", "straight-through"):
        start, inputs = replace(tiny_backbone.passes), images.clone().requires_grad_()
        logits = defence(inputs, PROMPTS, draws=Draws(draws), gradient=way)
        (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), inputs)
        cost = tiny_backbone.passes - start
        spent[way] = cost.forward + cost.backward
        if way == "relaxed":
            assert logits.shape == (len(images), 3) and (gradient.flatten(1).abs().amax(1) > 0).all()
    assert spent["relaxed"] <= spent["straight-through"] / (1 if name.startswith("cola") else 2)
    assert torch.equal(defence(images, PROMPTS, draws=Draws(draws)), before)


def test_prompt_tuning_without_its_step_is_the_image_under_the_first_words(
    tiny_backbone: Backbone, images: Tensor
) -> None:
    sentences = [f"a photo of a {name}." for name in PROMPTS.class_names]
    assert [group[0] for group in initial_prompts(PROMPTS).prompts] == sentences
    found = method("tpt").build(tiny_backbone)(images, PROMPTS, gradient="relaxed")
    assert torch.equal(
        found, tiny_backbone(images, PromptSet.from_templates(PROMPTS.class_names, ["a photo of a {}."]))
    )
