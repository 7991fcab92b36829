"""RN against its sheet (1.2, 1.6): x + U(-4/255, 4/255), clipped to [0,1], one forward pass."""

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.rn.method import RandomNoise

KEYS = tuple(range(6))


def classified(
    defence: RandomNoise, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch, call: int = 1
) -> Tensor:
    """The images that the encoder was given."""
    seen: list[Tensor] = []
    encode = defence.backbone.encode_image
    monkeypatch.setattr(defence.backbone, "encode_image", lambda x: (seen.append(x.detach()), encode(x))[1])
    with torch.no_grad():
        defence.draws = Draws(KEYS, call)
        defence.forward(images, prompts)
    monkeypatch.undo()
    (only,) = seen
    return only


def test_noise_fills_its_interval_and_no_more(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle = images * 0.5 + 0.25  # far from the box, so that nothing is clipped
    noise = classified(RandomNoise(tiny_backbone), middle, prompts, monkeypatch) - middle
    assert noise.abs().max() <= 4 / 255 + 1e-6
    assert noise.std().item() == pytest.approx(4 / 255 / 3**0.5, rel=0.05), "a uniform's deviation is eps / sqrt 3"


def test_the_picture_stays_in_its_box(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges = images.round()
    noisy = classified(RandomNoise(tiny_backbone), edges, prompts, monkeypatch)
    assert noisy.min() >= 0 and noisy.max() <= 1 and not torch.equal(noisy, edges)


def test_each_call_and_each_sample_has_its_own_noise(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = torch.full_like(images, 0.5)
    first, again, second = (classified(RandomNoise(tiny_backbone), grey, prompts, monkeypatch, c) for c in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_no_noise_is_the_undefended_model(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    assert torch.equal(RandomNoise(tiny_backbone, eps=0.0)(images, prompts), tiny_backbone(images, prompts))


def test_clipped_pixels_keep_their_gradient(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """On a black and white picture half of the pixels are clipped; a clip inside the graph would zero them."""
    edges = images.round().requires_grad_()
    (gradient,) = torch.autograd.grad(RandomNoise(tiny_backbone)(edges, prompts)[:, 0].sum(), edges)
    assert (gradient != 0).float().mean() > 0.99
