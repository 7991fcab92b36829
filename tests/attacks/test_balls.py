"""Projection: inside, idempotent, non-expansive, exact at the edges."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from vlm_gauntlet.attacks.balls import lp_norm, outside, per_sample, project, random_point
from vlm_gauntlet.fixtures.draws import Draws

NORMS = ("linf", "l2")
BUDGETS = st.sampled_from([0.0, 1e-8, 1 / 255, 4 / 255, 0.5, 1.0])


def tensors(low, high):
    """Two samples of 3 x 2 x 2, with the borders and neighbours of the borders among the values."""
    edges = [v for v in (0.0, 1.0, 1e-38, 1 - 2**-24) if low <= v <= high]
    values = st.one_of(st.floats(low, high, width=32), st.sampled_from(edges))
    return st.lists(values, min_size=24, max_size=24).map(lambda v: torch.tensor(v).view(2, 3, 2, 2))


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=60, deadline=None)
@given(clean=tensors(0, 1), images=tensors(-4, 4), other=tensors(-4, 4), eps=BUDGETS)
def test_projection_laws(norm, clean, images, other, eps):
    once = project(images, clean, norm=norm, eps=eps)
    assert not outside(once, clean, norm=norm, eps=eps).any()
    assert once.min() >= 0 and once.max() <= 1
    assert torch.allclose(project(once, clean, norm=norm, eps=eps), once, atol=1e-6, rtol=0)
    moved = lp_norm(once - project(other, clean, norm=norm, eps=eps), norm)
    assert (moved <= lp_norm(images - other, norm) + 1e-5).all()


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=40, deadline=None)
@given(clean=tensors(0, 1), images=tensors(-4, 4))
def test_zero_budget_gives_the_clean_bits(norm, clean, images):
    assert torch.equal(project(images, clean, norm=norm, eps=0.0), clean)


@settings(max_examples=40, deadline=None)
@given(clean=tensors(0, 1), images=tensors(-4, 4))
def test_full_linf_budget_is_the_box_alone(clean, images):
    assert torch.equal(project(images, clean, norm="linf", eps=1.0), images.clamp(0, 1))


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=40, deadline=None)
@given(clean=tensors(0, 1), images=tensors(0, 1))
def test_images_inside_keep_their_bits(norm, clean, images):
    assert torch.equal(project(images, clean, norm=norm, eps=8.0), images)


def test_l2_projection_is_the_nearest_point_of_the_ball():
    clean = torch.full((1, 3, 2, 2), 0.5)
    step = torch.zeros_like(clean)
    step[0, 0, 0, 0], step[0, 1, 1, 1] = 0.3, 0.4
    assert torch.allclose(project(clean + step, clean, norm="l2", eps=0.1), clean + 0.2 * step, atol=1e-7)


@pytest.mark.parametrize("norm", NORMS)
def test_outside_sees_the_ball_the_box_and_nan(norm):
    clean = torch.zeros(4, 3, 2, 2)
    images = clean.clone()
    images[1, 0, 0, 0], images[2, 0, 0, 0], images[3, 0, 0, 0] = 0.11, -0.01, float("nan")
    assert outside(images, clean, norm=norm, eps=0.1).tolist() == [False, True, True, True]


def test_per_sample_broadcasts_over_pixels():
    assert (torch.ones(2, 3, 2, 2) * per_sample(torch.tensor([1.0, 2.0]), torch.ones(2, 3, 2, 2))).sum() == 36


@pytest.mark.parametrize("norm", NORMS)
@settings(max_examples=20, deadline=None)
@given(clean=tensors(0, 1), eps=BUDGETS, key=st.integers(0, 99))
def test_a_random_point_lies_inside_and_belongs_to_the_sample(norm, clean, eps, key):
    points = random_point(clean, Draws((key, key + 1)), norm=norm, eps=eps)
    assert not outside(points, clean, norm=norm, eps=eps).any()
    assert torch.equal(points[1:], random_point(clean[1:], Draws((key + 1,)), norm=norm, eps=eps))


@pytest.mark.parametrize("norm", NORMS)
def test_random_points_fill_the_ball_on_both_sides(norm):
    clean = torch.full((400, 3, 2, 2), 0.5)
    lengths = lp_norm(away := random_point(clean, Draws(tuple(range(400))), norm=norm, eps=0.2) - clean, norm)
    assert 0.19 < lengths.max() <= 0.2001 and abs(float(away.mean())) < 0.01
    assert lengths.min() < (0.01 if norm == "l2" else 0.18)
