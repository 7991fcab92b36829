"""Views: torchvision's crops in one go, streams of their own, gradients, entropies and who is most certain."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.transforms.v2.functional import pil_to_tensor, resized_crop

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.r_tpt.method import RTPT
from vlm_gauntlet.methods.tpt.method import TPT
from vlm_gauntlet.methods.views import Views, draw_views, entropy, most_certain, pick, view_features

KEYS = tuple(range(6))
plain = Views.render


def drawn(images: Tensor, count: int = 64, keys: tuple[int, ...] = KEYS) -> Views:
    return draw_views(images, Draws(keys, 1), count)


@pytest.mark.parametrize("size", [16, 9, 31])
def test_a_crop_is_torchvisions(images: Tensor, size: int) -> None:
    views = drawn(images, 12)
    rendered = views.render(images, size)
    for b in range(6):
        for n in range(11):
            top, left, rows, columns = map(int, views.boxes[b, n])
            crop = resized_crop(images[b], top, left, rows, columns, [size, size], antialias=True)
            expected = crop.flip(-1) if views.mirrored[b, n] else crop
            assert torch.allclose(rendered[b, n + 1], expected, atol=1e-5)


@pytest.mark.parametrize("size", [16, 9, 31])
def test_a_crop_of_8_bits_is_pils(images: Tensor, size: int) -> None:
    """Pixel for pixel. Two passes one by one: Pillow 13 itself takes the rows of some high crops first."""
    bytes_ = (255 * images).round().to(torch.uint8)
    views = replace(drawn(images, 12), eight_bit=True)
    rendered = views.render(bytes_ / 255, size)[:, 1:]
    for b in range(6):
        picture = Image.fromarray(bytes_[b].permute(1, 2, 0).numpy())
        for n in range(11):
            top, left, rows, columns = map(int, views.boxes[b, n])
            crop = picture.crop((left, top, left + columns, top + rows))
            for shape in ((size, rows), (size, size)):
                crop = crop.resize(shape, Image.Resampling.BILINEAR)
            crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if views.mirrored[b, n] else crop
            assert torch.equal(rendered[b, n], pil_to_tensor(crop) / 255)
    plain = drawn(images, 12).render(bytes_ / 255, size)[:, 1:]
    assert (255 * (plain - rendered).abs() > 0.05).float().mean() > 0.5, "without the switch nothing is rounded"
    assert 255 * (plain - rendered).abs().max() < 1.01, "two roundings by at most a half each"


def test_8_bits_round_the_columns_first_and_then_the_rows() -> None:
    """[1 3; 0 0] to one pixel: (1 + 3) / 2 = 2 and 0, then 1. Rows first: 0.5 and 1.5, so 1 and 2, then 1.5, so 2.

    Turned, it is the other way round; at once both are 1.
    """
    box, mirrored = torch.tensor([[[0.0, 0, 2, 2]]]), torch.tensor([[False]])
    for pixels, columns_first in (([[1, 3], [0, 0]], 1), ([[1, 0], [3, 0]], 2)):
        image = torch.tensor(pixels).expand(1, 3, 2, 2) / 255
        view = Views(box, mirrored, eight_bit=True).render(image, 1)[0, 1]
        assert (255 * view).flatten().tolist() == [columns_first] * 3


def test_8_bits_are_the_identity_to_an_attacker(images: Tensor) -> None:
    gradients = []
    for eight_bit in (False, True):
        inputs = images.clone().requires_grad_()
        views = replace(drawn(images, 5), eight_bit=eight_bit)
        gradients += torch.autograd.grad((views.render(inputs, 16) * torch.arange(16.0)).sum(), inputs)
    assert torch.allclose(*gradients, atol=1e-3) and gradients[0].abs().max() > 1


@pytest.mark.parametrize("kind", [TPT, RTPT])
def test_the_switch_of_a_method_reaches_its_views(
    kind: type[TPT | RTPT], tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered: list[bool] = []
    monkeypatch.setattr(
        Views, "render", lambda views, x, size: rendered.append(views.eight_bit) or plain(views, x, size)
    )
    for choice in ("exact", "8-bit"):
        rendered.clear()
        kind(tiny_backbone, {"crops": choice})(images[:1], prompts, draws=Draws((0,)))
        assert set(rendered) == {choice == "8-bit"}


def test_view_0_is_the_image(images: Tensor) -> None:
    views = drawn(images)
    assert torch.equal(views.render(images, 16)[:, 0], images)
    larger = F.interpolate(images, size=(20, 20), mode="bicubic", align_corners=False)
    assert torch.equal(views.render(images, 20)[:, 0], larger)


def test_boxes_follow_scale_and_ratio() -> None:
    images = torch.rand(8, 3, 100, 120)
    views = draw_views(images, Draws(tuple(range(8))), 400)
    top, left, rows, columns = views.boxes.unbind(-1)
    assert (top >= 0).all() and (left >= 0).all() and (top + rows <= 100).all() and (left + columns <= 120).all()
    share, shape = rows * columns / 12000, columns / rows
    assert 0.075 < share.min() < 0.11 and 0.9 < share.max() <= 1 and 0.45 < share.mean() < 0.55
    assert 0.72 < shape.min() < 0.8 and 1.25 < shape.max() < 1.4
    assert top.max() > 50 and left.max() > 60 and 0.45 < views.mirrored.float().mean() < 0.55


def test_where_no_crop_fits_it_is_the_middle() -> None:
    views = draw_views(torch.rand(1, 3, 4, 400), Draws((0,)), 200)
    middle = (views.boxes[0] == torch.tensor([0.0, 197, 4, 5])).all(-1)
    assert middle.float().mean() > 0.5


def test_a_samples_views_are_its_own(images: Tensor) -> None:
    views, alone = drawn(images), drawn(images[2:3], keys=(2,))
    assert torch.equal(views.boxes[2:3], alone.boxes) and torch.equal(views.mirrored[2:3], alone.mirrored)
    assert not torch.equal(views.boxes[1], views.boxes[2])
    assert torch.allclose(views.render(images, 16)[2:3], alone.render(images[2:3], 16), atol=1e-6)


def test_augmix_works_on_the_crops_alone(images: Tensor) -> None:
    views = draw_views(images, Draws(KEYS, 1), 8, augmix=True)
    plain, mixed = drawn(images, 8), views.render(images, 16)
    assert torch.equal(views.boxes, plain.boxes) and views.mixes is not None
    assert torch.equal(mixed[:, 0], images)
    assert torch.equal(mixed[:, 1:], views.mixes.apply(plain.render(images, 16)[:, 1:]))
    assert torch.allclose(views[2:4].first(5).render(images[2:4], 16), mixed[2:4, :5], atol=1e-5)


def test_rendering_is_linear_and_lets_the_gradient_through(images: Tensor) -> None:
    """The gradient of <render(x), v> is the transpose applied to v: <render(x), v> = <x, gradient>."""
    views, inputs = drawn(images, 8), images.clone().requires_grad_()
    probe = torch.randn(6, 8, 3, 16, 16)
    value = (views.render(inputs, 16) * probe).sum()
    (gradient,) = torch.autograd.grad(value, inputs)
    assert torch.allclose((gradient * images).sum(), value, rtol=1e-4)


def test_features_are_those_of_the_views(tiny_backbone: Backbone, images: Tensor) -> None:
    views = drawn(images, 8)
    features = view_features(tiny_backbone, images, views)
    assert features.shape == (6, 8, 16)
    one = F.normalize(tiny_backbone.encode_image(views.render(images, 16)[4]), dim=-1)
    assert torch.allclose(features[4], one, atol=1e-5)


def gradient_of(
    backbone: Backbone, images: Tensor, views: Views, probe: Tensor, through: int | None
) -> tuple[Tensor, Tensor]:
    inputs = images.clone().requires_grad_()
    features = view_features(backbone, inputs, views, through)
    return features.detach(), torch.autograd.grad((features * probe).sum(), inputs)[0]


@pytest.mark.parametrize(("through", "count"), [(None, 8), (1, 1), (3, 3), (99, 8)])
def test_the_gradient_goes_through_the_views_that_it_is_told_to(
    through: int | None, count: int, tiny_backbone: Backbone, images: Tensor
) -> None:
    """The image once, each of the other views for 7 / (count - 1) crops; the values are always those of all views."""
    views, probe = drawn(images, 8), torch.randn(6, 8, 16)
    values, measured = gradient_of(tiny_backbone, images, views, probe, through)
    assert torch.equal(values, view_features(tiny_backbone, images, views))
    inputs = images.clone().requires_grad_()
    rendered = views.first(count).render(inputs, 16).flatten(0, 1)
    features = F.normalize(tiny_backbone.encode_image(rendered), dim=-1).view(6, count, -1)
    times = torch.tensor([1.0] + [7 / (count - 1)] * (count - 1) if count > 1 else [1.0])[:, None]
    (expected,) = torch.autograd.grad((features * times * probe[:, :count]).sum(), inputs)
    assert torch.allclose(measured, expected, atol=1e-4)


@pytest.mark.parametrize(("through", "forward", "backward"), [(None, 16, 8), (3, 11, 3)])
def test_a_gradient_takes_one_pass_back_and_one_more_forth(
    through: int | None, forward: int, backward: int, tiny_backbone: Backbone, images: Tensor
) -> None:
    before = replace(tiny_backbone.passes)
    gradient_of(tiny_backbone, images, drawn(images, 8), torch.ones(6, 8, 16), through)
    taken = tiny_backbone.passes - before
    assert (taken.forward, taken.backward) == (6 * forward, 6 * backward)


def test_the_second_derivative_is_that_of_the_features(tiny_backbone: Backbone, images: Tensor) -> None:
    """An unrolled defence differentiates a gradient of the features."""
    inputs, views, probe = images[:2].clone().requires_grad_(), drawn(images, 3)[:2], torch.randn(2, 3, 16)

    def second(features: Tensor) -> Tensor:
        (first,) = torch.autograd.grad((features * probe).sum(), inputs, create_graph=True)
        return torch.autograd.grad(first.square().sum(), inputs)[0]

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel cannot be differentiated twice
        seen = tiny_backbone.encode_image(views.render(inputs, 16).flatten(0, 1))
        expected = second(F.normalize(seen, dim=-1).view(2, 3, -1))
        measured = second(view_features(tiny_backbone, inputs, views))
    assert expected.abs().max() > 0 and torch.allclose(measured, expected, rtol=1e-2, atol=1e-4 * expected.abs().max())


def test_the_gradient_through_a_few_views_is_the_full_one_on_average(tiny_backbone: Backbone, images: Tensor) -> None:
    """Over all turns of the crops, each stands among the first two equally often."""
    views, probe = drawn(images, 8), torch.randn(6, 8, 16)
    _, full = gradient_of(tiny_backbone, images, views, probe, None)
    parts = []
    for turn in range(7):
        turned = Views(views.boxes.roll(turn, 1), views.mirrored.roll(turn, 1))
        moved = torch.cat([probe[:, :1], probe[:, 1:].roll(turn, 1)], dim=1)
        parts.append(gradient_of(tiny_backbone, images, turned, moved, 3)[1])
    assert torch.allclose(torch.stack(parts).mean(0), full, atol=1e-4)
    assert not torch.allclose(parts[0], full, atol=1e-3)


def test_entropy() -> None:
    logits = torch.randn(3, 5, 7)
    assert torch.allclose(entropy(logits), torch.distributions.Categorical(logits=logits).entropy(), atol=1e-5)
    assert entropy(torch.tensor([1e4, 0.0, 0.0])) == 0


def test_the_marginal_entropy_is_the_mean_entropy_and_the_disagreement() -> None:
    """H(mean p) = mean H(p_i) + mean KL(p_i || mean p): what separates the losses of TPT and R-TPT (sheet 5)."""
    logits = 3 * torch.randn(6, 10)
    chances = logits.softmax(-1)
    mean = chances.mean(0)
    disagreement = (chances * (chances / mean).log()).sum(-1).mean()
    assert torch.allclose(entropy(mean.log()), entropy(logits).mean() + disagreement, atol=1e-5)


def test_the_most_certain_have_the_lowest_entropies() -> None:
    logits = torch.randn(4, 64, 5)
    kept = most_certain(logits, 0.1)
    values = entropy(logits)
    assert kept.shape == (4, 6)  # int(0.1 * 64)
    assert torch.equal(pick(values, kept).sort(-1).values, values.sort(-1).values[:, :6])
    assert pick(logits, kept).shape == (4, 6, 5)
    assert most_certain(logits[:, :3], 0.1).shape == (4, 1)
