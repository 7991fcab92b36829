"""AugMix: proportions of the draws, operations that are what they are called, gradients, streams of their own."""

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.methods.augmix import OPERATIONS, Mixes, draw_mixes

KEYS = tuple(range(6))
AUTOCONTRAST, EQUALIZE, POSTERIZE, SOLARIZE, ROTATE, SHEAR_X, SHEAR_Y, MOVE_X, MOVE_Y = range(9)


def one(kind: int, level: float, views: Tensor) -> Tensor:
    return OPERATIONS[kind](views, torch.full((len(views),), level))


def views(size: int = 30) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 0.6 + 0.2


def test_draws_have_their_proportions(images: Tensor) -> None:
    mixes = draw_mixes(images, Draws(KEYS), 400)
    assert torch.allclose(mixes.shares.sum(-1), torch.ones(6, 400), atol=1e-5)
    assert mixes.shares.mean((0, 1)).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert float(mixes.shares.var()) == pytest.approx(1 / 18, abs=0.005)  # Dirichlet(1, 1, 1)
    lengths = (mixes.kinds >= 0).sum(-1)
    assert [(lengths == n).float().mean().item() for n in (1, 2, 3)] == pytest.approx([1 / 3] * 3, abs=0.03)
    assert torch.bincount(mixes.kinds[mixes.kinds >= 0], minlength=9).min() > 1000
    assert mixes.levels.abs().min() >= 0.1 and mixes.levels.abs().max() < 1 and mixes.levels.min() < 0
    assert float(mixes.kept.mean()) == pytest.approx(0.5, abs=0.03)


def test_a_sample_keeps_its_own_draws(images: Tensor) -> None:
    whole, alone = draw_mixes(images, Draws(KEYS), 7), draw_mixes(images[3:4], Draws((3,)), 7)
    part = whole.part(slice(3, 4), slice(0, 7))
    crops = torch.rand(1, 7, 3, 16, 16)
    torch.testing.assert_close(part.apply(crops), alone.apply(crops))
    assert not torch.allclose(whole.part(slice(2, 3), slice(0, 7)).apply(crops), alone.apply(crops), atol=1e-2)


def test_operations_are_what_they_are_called() -> None:
    x = views()
    stretched = one(AUTOCONTRAST, 0.5, x)
    assert torch.allclose(stretched.amin((2, 3)), torch.zeros(2, 3)) and stretched.amax() == pytest.approx(1)
    levels = torch.histc(one(EQUALIZE, 0.5, x), 4, 0, 1.0001)
    assert levels.min() > 0.2 * levels.sum()
    assert len(one(POSTERIZE, 0.5, x).unique()) <= 16
    bright = x.clone()
    bright[0, 0, 0, 0] = 1.0
    inverted = one(SOLARIZE, 0.9, bright)
    assert inverted[0, 0, 0, 0] == 0 and (inverted != bright).sum() == 1
    assert torch.allclose(one(MOVE_X, -1.0, x)[..., 1:], x[..., :-1], atol=1e-5)
    assert torch.allclose(one(MOVE_Y, 1.0, x)[..., :-1, :], x[..., 1:, :], atol=1e-5)
    for kind in (ROTATE, SHEAR_X, SHEAR_Y):
        there = one(kind, 0.9, x)
        assert 1e-3 < (there - x).abs().mean() < 0.2, kind
    assert torch.equal(one(ROTATE, 0.3, x), one(ROTATE, -0.3, x))  # less than a degree is none


def test_a_rotation_turns_about_the_middle() -> None:
    disc = (torch.linspace(-1, 1, 31).square()[:, None] + torch.linspace(-1, 1, 31).square() < 0.5).float()
    x = disc.expand(1, 3, 31, 31)
    assert (one(ROTATE, 0.9, x) - x).abs().mean() < 0.02
    assert (one(MOVE_X, 1.0, x) - x).abs().mean() > 0.03


def test_without_operations_the_mix_is_the_view() -> None:
    x = torch.rand(2, 4, 3, 8, 8)
    none = Mixes(torch.full((2, 4, 3, 3), -1), torch.zeros(2, 4, 3, 3), torch.full((2, 4, 3), 1 / 3), torch.zeros(2, 4))
    assert torch.allclose(none.apply(x), x, atol=1e-6)


def test_gradients_reach_the_image_through_every_operation() -> None:
    for kind in range(9):
        inputs = views(16).requires_grad_()
        (gradient,) = torch.autograd.grad((one(kind, 0.9, inputs) * torch.rand(2, 3, 16, 16)).sum(), inputs)
        assert torch.isfinite(gradient).all() and (gradient != 0).float().mean() > 0.8, kind
