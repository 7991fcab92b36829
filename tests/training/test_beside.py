"""What a checkpoint keeps beside the towers, and a tuned model that moves its class texts by it."""

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.learned_prompts import prompted_text_features, word_vectors
from vlm_gauntlet.fixtures.packing import unpack
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.checkpoint import packed_difference, set_apart


class Turn(nn.Module):
    """Moves the dimensions on by one, and keeps a number."""

    number: Tensor

    def __init__(self, number: float) -> None:
        super().__init__()
        self.register_buffer("number", torch.tensor(number))

    def forward(self, weights: Tensor) -> Tensor:
        return weights.roll(1, -1)


def test_what_is_kept_beside_comes_back_apart_from_the_difference() -> None:
    start, kept = torch.zeros(3), {"pole": torch.tensor([0.5, 2.0]), "wide": torch.ones(64, 64)}
    difference, beside = set_apart(unpack(load(packed_difference({"bias": start}, {"bias": start + 0.25}, kept))))
    assert difference.keys() == {"bias"} and difference["bias"].tolist() == [0.25] * 3
    assert beside.keys() == kept.keys() and all(torch.equal(beside[name], kept[name]) for name in kept)


def test_a_map_of_class_texts_reaches_all_that_compare_with_them(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    tuned, context = tiny_backbone.tuned({}, text_map=Turn(1.0)), word_vectors(tiny_backbone)[None]
    before = tiny_backbone.text_features(prompts)
    assert torch.equal(tuned.text_features(prompts), before.roll(1, -1))
    assert torch.equal(tiny_backbone.text_features(prompts), before), "the original keeps its own"
    plain = prompted_text_features(tiny_backbone, prompts, context)
    assert torch.equal(prompted_text_features(tuned, prompts, context), plain.roll(1, -1))
    expected = tuned.logit_scale * F.normalize(tiny_backbone.encode_image(images), dim=-1) @ before.roll(1, -1).T
    assert torch.allclose(tuned(images, prompts), expected, atol=1e-4)
    assert tuned.tuned({}).text_map is tuned.text_map and tiny_backbone.text_map is None
    assert not any(module.training for module in tuned.modules()), "whoever builds on it finds it as it is"


def test_a_map_of_class_texts_has_a_part_in_the_digest_of_texts(tiny_backbone: Backbone) -> None:
    found = [tiny_backbone.tuned({}, text_map=m).text_digest for m in (None, Turn(1.0), Turn(2.0), Turn(1.0))]
    assert found[0] == tiny_backbone.text_digest and found[1] == found[3] and len(set(found)) == 3
