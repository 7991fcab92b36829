"""The inner maximisation against images computed by hand, and what it leaves behind: nothing."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.recipe import Budget

SLOPE = torch.tensor([0.003, -20.0, 0.0]).view(1, 3, 1, 1)  # of a linear loss: small, steep and flat channels


def linear(images: Tensor) -> Tensor:
    return (images * SLOPE).sum()


def budget(eps: str, steps: int, step_size: str) -> Budget:
    return Budget(eps=eps, steps=steps, step_size=step_size)


def test_a_step_has_the_length_of_the_step_size_whatever_the_slope() -> None:
    """From 0.5 + u, one step of 1/100 along the sign: +, -, and 0 where there is no slope. Without the sign, the small
    slope would move by 0.00003 and the steep one to the border."""
    images, keys = torch.full((2, 3, 2, 2), 0.5), (7, 8)
    start = Draws(keys).uniform(images, -0.1, 0.1)
    found = worst_images(linear, images, keys, budget("1/10", 1, "1/100"))
    step = torch.tensor([0.01, -0.01, 0.0]).view(1, 3, 1, 1)
    assert torch.allclose(found, 0.5 + (start + step).clamp(-0.1, 0.1), atol=1e-7)


def test_two_steps_of_eps_end_in_the_corner_and_in_the_box() -> None:
    images = torch.tensor([0.98, 0.01, 0.5]).view(1, 3, 1, 1)
    found = worst_images(linear, images, (1,), budget("8/255", 2, "8/255")).flatten()
    assert found[:2].tolist() == [1.0, 0.0]
    assert found[2].item() == pytest.approx(0.5 + Draws((1,)).uniform(images, -8 / 255, 8 / 255)[0, 2].item())


def test_each_image_has_the_start_of_its_key() -> None:
    images = torch.full((3, 3, 2, 2), 0.5)
    whole = worst_images(linear, images, (1, 2, 3), budget("8/255", 1, "1/255"))
    assert torch.equal(whole[1:2], worst_images(linear, images[:1], (2,), budget("8/255", 1, "1/255")))
    assert not torch.equal(whole[0], whole[1])


def test_only_images_get_gradients() -> None:
    layer, images = nn.Conv2d(3, 1, 1), torch.rand(2, 3, 2, 2)

    def loss(x: Tensor) -> Tensor:
        return layer(x).square().mean()

    found = worst_images(loss, images, (0, 1), budget("8/255", 2, "4/255"))
    assert all(p.grad is None for p in layer.parameters())
    assert not found.requires_grad and images.grad is None and not images.requires_grad
    layer.weight.grad = torch.ones_like(layer.weight)
    worst_images(loss, images, (0, 1), budget("8/255", 2, "4/255"))
    assert torch.equal(layer.weight.grad, torch.ones_like(layer.weight))


def test_accumulate_adds_the_share_of_each_steps_gradient() -> None:
    """d/dw of w x at the images of the two steps, by hand: the start, and the corner after one step of 2 eps."""
    weight = nn.Parameter(torch.ones(()))
    images, keys = torch.full((1, 3, 1, 1), 0.5), (3,)
    plain = worst_images(lambda x: weight * x.sum(), images, keys, budget("1/10", 2, "2/10"))
    found = worst_images(lambda x: weight * x.sum(), images, keys, budget("1/10", 2, "2/10"), accumulate=0.25)
    start = images + Draws(keys).uniform(images, -0.1, 0.1)
    assert torch.equal(found, plain)
    assert weight.grad.item() == pytest.approx(0.25 * (start.sum() + 3 * 0.6).item())


@given(st.integers(0, 64), st.integers(0, 3), st.integers(1, 64))
def test_images_stay_in_ball_and_box(eps: int, steps: int, step: int) -> None:
    images = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(eps))
    found = worst_images(linear, images, (eps, steps), budget(f"{eps}/255", steps, f"{step}/255"))
    assert (found - images).abs().max() <= float(Fraction(eps, 255)) + 1e-6
    assert found.min() >= 0 and found.max() <= 1
    if eps == 0:
        assert torch.equal(found, images)
