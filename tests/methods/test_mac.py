"""MAC: the weak view's numbers, corruption degree and weight by hand, the counterattack's ball, the evasion margin."""

import math

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.mac.method import MAC
from vlm_gauntlet.methods.mac.weak_view import NUMBERS, weak_view, weak_views

from ..rounding import between

KEYS = tuple(range(6))


def numbers(*, colours: float = 0.9, blur: float = 0.9, noise: float = 0.9, rest: float = 0.5) -> list[float]:
    return [0.5] * 4 + [colours, blur, noise] + [rest] * (NUMBERS - 7)


def test_in_the_middle_of_every_range_a_weak_view_is_the_image(images: Tensor) -> None:
    assert torch.allclose(weak_view(images[0], numbers(), torch.ones_like(images[0])), images[0], atol=1e-5)
    middle = weak_view(images[0], numbers(colours=0.1), torch.ones_like(images[0]))
    assert torch.allclose(middle, images[0], atol=1e-4)  # factors of one, no hue


def test_shifts_are_whole_pixels_of_four_per_cent() -> None:
    """The largest draw of a picture of 100 pixels moves it by 4."""
    picture = torch.zeros(3, 100, 100)
    picture[:, 50, 50] = 1
    moved = weak_view(picture, [0.5, 1.0, 0.0, 0.5, 0.9, 0.9, 0.9] + [0.5] * 10, torch.zeros_like(picture))
    assert moved[0].argmax().item() == 46 * 100 + 54


def test_noise_is_its_share_of_two_per_cent_and_clipped() -> None:
    grey, noise = torch.full((3, 8, 8), 0.5), torch.ones(3, 8, 8)
    seen = weak_view(grey, numbers(noise=0.1, rest=0.25), noise)
    assert torch.allclose(seen, grey + 0.02 * 0.25, atol=1e-6)
    assert weak_view(torch.ones(3, 8, 8), numbers(noise=0.1), noise).max() <= 1


@pytest.mark.parametrize("part", ["colours", "blur", "noise"])
def test_each_part_comes_half_of_the_time(part: str, images: Tensor) -> None:
    args = {"rest": 0.9}
    on, off = (weak_view(images[0], numbers(**args, **{part: p}), torch.ones_like(images[0])) for p in (0.49, 0.5))
    assert torch.allclose(off, images[0], atol=1e-5) and not torch.allclose(on, images[0], atol=1e-3)


def test_views_belong_to_their_samples(images: Tensor) -> None:
    whole = weak_views(images, Draws(KEYS, 1))
    alone = torch.cat([weak_views(images[i : i + 1], Draws((i,), 1)) for i in KEYS])
    assert torch.allclose(whole, alone, atol=1e-6)
    assert not torch.allclose(whole, weak_views(images, Draws(KEYS, 2)), atol=1e-3)


def test_weight_by_hand(tiny_backbone: Backbone) -> None:
    """sigmoid((d - 0.7) / 0.01): one half at 0.7, 0.731 a hundredth above; a stable image is left alone."""
    corruption = torch.tensor([0.70, 0.71, 0.5, 0.9])
    expected = [0.5, 1 / (1 + math.exp(-1)), 0.0, 1.0]
    assert MAC(tiny_backbone).weight(corruption).tolist() == pytest.approx(expected, abs=1e-4)
    assert MAC(tiny_backbone, {"weight": "all"}).weight(corruption).tolist() == [1.0] * 4
    assert MAC(tiny_backbone, {"weight": "none"}).weight(corruption).tolist() == [0.0] * 4


def test_corruption_is_the_relative_move_of_the_unnormalised_feature(tiny_backbone: Backbone, images: Tensor) -> None:
    defence = MAC(tiny_backbone)
    defence.draws = Draws(KEYS, 1)
    weighed = defence.weigh(images)
    draws = Draws(KEYS, 1)
    views = torch.stack([images, weak_views(images, draws)], 1)
    weak = weak_views(views, draws)
    still, moved = (tiny_backbone.encode_image(v.flatten(0, 1)) for v in (views, weak))
    assert torch.allclose(weighed.views, views.flatten(0, 1))
    assert torch.allclose(weighed.corruption, (moved - still).norm(dim=1) / still.norm(dim=1), atol=1e-5)


def test_the_move_stays_in_ball_and_box_and_moves_the_feature(tiny_backbone: Backbone, images: Tensor) -> None:
    defence = MAC(tiny_backbone, {"weight": "all"})
    defence.draws = Draws(KEYS, 1)
    weighed = defence.weigh(torch.cat([images[:4], torch.zeros_like(images[:1]), torch.ones_like(images[:1])]))
    move = defence.move(weighed)
    moved = weighed.views + move
    assert move.abs().max() <= 8 / 255 + 1e-6 and moved.min() >= -1e-6 and moved.max() <= 1 + 1e-6

    def distance(delta: Tensor) -> Tensor:
        return (tiny_backbone.encode_image(weighed.views + delta) - weighed.still).norm(dim=1)

    assert (distance(move)[:8] > distance(weighed.start)[:8]).all()  # the four pictures' views; not the flat ones


def test_without_weight_it_is_the_mean_over_both_views(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    defence = MAC(tiny_backbone, {"weight": "none"})
    seen = defence(images, prompts, draws=Draws(KEYS, 1))
    view = weak_views(images, Draws(KEYS, 1))
    expected = (tiny_backbone(images, prompts) + tiny_backbone(view, prompts)) / 2
    assert torch.allclose(seen, expected, atol=1e-4)


def test_branches_mix_to_the_answer(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = MAC(tiny_backbone, threshold=0.05)
    parts = defence.branch_logits_on(images, prompts, Draws(KEYS, 1))
    mixed = sum(share * logits for share, logits in parts)
    assert torch.allclose(mixed, defence(images, prompts, draws=Draws(KEYS, 1)), atol=1e-4)


def test_the_gate_margin_tells_who_is_moved(tiny_backbone: Backbone, images: Tensor) -> None:
    """The threshold lies in the widest gap between the images' larger corruption degrees."""
    probe = MAC(tiny_backbone)
    probe.draws = Draws(KEYS, 1)
    larger = probe.weigh(images).corruption.view(6, 2).amax(1)
    middle = between(larger)
    defence = MAC(tiny_backbone, threshold=middle, temperature=1e-6)
    inputs = images.clone().requires_grad_()
    prompts = PromptSet.from_templates(["cat", "dog"], ["a {c}"])
    margin = defence.gate_margin_on(inputs, prompts, Draws(KEYS, 1))
    defence.draws = Draws(KEYS, 1)
    still = defence.move(defence.weigh(images)).view(6, -1).abs().amax(1) < 1e-6
    assert ((margin < 0) == still).all() and 0 < still.sum() < 6
    (gradient,) = torch.autograd.grad(margin.sum(), inputs)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
