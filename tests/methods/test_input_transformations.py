"""JPEG, bit depth, resize and pad: what each does to pixels, and what an attacker sees of it."""

import io
from collections.abc import Callable

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.bit_depth.method import BitDepth
from vlm_gauntlet.methods.jpeg.method import JPEG
from vlm_gauntlet.methods.resize_pad.method import PASSES, ResizePad

KEYS = tuple(range(6))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, prompts: PromptSet) -> Callable[..., list[Tensor]]:
    """What the encoder is given by a defence, pass by pass."""

    def looked(defence: Defence, images: Tensor, call: int = 1) -> list[Tensor]:
        given: list[Tensor] = []
        encode = defence.backbone.encode_image
        monkeypatch.setattr(defence.backbone, "encode_image", lambda x: (given.append(x.detach()), encode(x))[1])
        with torch.no_grad():
            defence(images, prompts, draws=Draws(KEYS[: len(images)], call))
        monkeypatch.undo()
        return given

    return looked


def test_jpeg_is_what_a_file_holds(tiny_backbone: Backbone, images: Tensor, seen: Callable[..., list[Tensor]]) -> None:
    """PIL writes with libjpeg, too; its reader may differ by a rounding of a level."""
    (given,) = seen(JPEG(tiny_backbone), images)
    for picture, image in zip(given, images, strict=True):
        file = io.BytesIO()
        to_pil_image((image * 255).round().to(torch.uint8)).save(file, "JPEG", quality=75)
        assert (picture * 255 - pil_to_tensor(Image.open(file)).float()).abs().max() <= 1.001
    assert (given - images).abs().mean() > 0.01


def test_a_lower_quality_is_further_away(
    tiny_backbone: Backbone, images: Tensor, seen: Callable[..., list[Tensor]]
) -> None:
    far, near = (seen(JPEG(tiny_backbone, quality=quality), images)[0] for quality in (10, 95))
    assert (far - images).norm() > 1.2 * (near - images).norm()


@pytest.mark.parametrize(("levels", "steps"), [("xu", 7), ("guo", 8)])
def test_bits_are_levels(
    levels: str, steps: int, tiny_backbone: Backbone, images: Tensor, seen: Callable[..., list[Tensor]]
) -> None:
    """3 bits: 0, 1/7, ..., 1 by Xu et al.; 0, 1/8, ..., 1 in the code of Guo et al. 0.5 goes to 4/7, to 4/8."""
    (given,) = seen(BitDepth(tiny_backbone, {"levels": levels}), images)
    assert torch.equal((given * steps).round() / steps, given)
    assert set((given * steps).round().unique().int().tolist()) == set(range(steps + 1))
    assert (given - images).abs().max() <= 0.5 / steps + 1e-6
    (half,) = seen(BitDepth(tiny_backbone, {"levels": levels}), torch.full((1, 3, 16, 16), 0.5001))
    assert half.unique().item() == pytest.approx(4 / steps)


@pytest.mark.parametrize("make", [JPEG, BitDepth])
def test_its_own_gradient_is_zero_and_the_attackers_is_the_models(
    make: type[Defence], tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    """BPDA: the gradient of the undefended model, taken where the transformed image lies."""
    defence, gradients = make(tiny_backbone), {}
    for route in ("direct", "straight-through"):
        inputs = images.clone().requires_grad_()
        out = defence(inputs, prompts, gradient=route)[:, 0].sum()
        gradients[route] = torch.autograd.grad(out, inputs)[0] if out.requires_grad else torch.zeros_like(images)
    assert not gradients["direct"].any()
    moved = defence._compressed(images) if isinstance(defence, JPEG) else defence._squeezed(images)
    there = moved.detach().requires_grad_()
    (expected,) = torch.autograd.grad(tiny_backbone(there, prompts)[:, 0].sum(), there)
    assert torch.allclose(gradients["straight-through"], expected, atol=1e-5)


def test_a_picture_lies_somewhere_on_black(tiny_backbone: Backbone, seen: Callable[..., list[Tensor]]) -> None:
    """64 pixels: sides 64..70 on a canvas of round(64 * 331 / 299) = 71; all of them come up, and all corners move."""
    white, sides, corners = torch.ones(6, 3, 64, 64), set(), set()
    for call in range(40):
        (given,) = seen(ResizePad(tiny_backbone), white, call)
        assert given.shape == (6, 3, 71, 71)
        for picture in given:
            rows, columns = picture[0].any(1).nonzero().flatten(), picture[0].any(0).nonzero().flatten()
            assert len(rows) == len(columns) == picture[0].any(1).sum() == rows.max() - rows.min() + 1
            sides.add(len(rows))
            corners.add((int(rows.min()), int(columns.min())))
            assert picture.sum() == 3 * len(rows) * len(columns), "ones inside, zeros outside"
    assert sides == set(range(64, 71))
    assert {row for row, _ in corners} == {column for _, column in corners} == set(range(8))


def test_a_pixel_is_some_pixel(tiny_backbone: Backbone, images: Tensor, seen: Callable[..., list[Tensor]]) -> None:
    """Nearest neighbour: no value is new but the black around."""
    (given,) = seen(ResizePad(tiny_backbone), images)
    for picture, image in zip(given, images, strict=True):
        assert set(picture.unique().tolist()) == {0.0, *image.unique().tolist()}


def test_the_competitions_entry_averages_probabilities(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, seen: Callable[..., list[Tensor]]
) -> None:
    defence = ResizePad(tiny_backbone, {"entry": "competition"})
    given = seen(defence, images)
    assert len(given) == PASSES == 30
    with torch.no_grad():
        mean = torch.stack([tiny_backbone(x, prompts).softmax(-1) for x in given]).mean(0)
        answer = defence(images, prompts, draws=Draws(KEYS, 1))
    assert torch.allclose(answer.softmax(-1), mean, atol=1e-5)
    ramp = torch.linspace(0.1, 1, 64).expand(6, 3, 64, 64)
    placed = torch.cat(seen(defence, ramp))
    rising = [bool(row[row > 0].diff().sum() > 0) for row in placed[:, 0, 35]]
    assert 60 < sum(rising) < 120, "half of 180 are mirrored"
    assert min(int((picture[0, 35] > 0).sum()) for picture in placed) == 66, "310 of 299"
