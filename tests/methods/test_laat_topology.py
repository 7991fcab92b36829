"""What the expansion of LAAT's anchors keeps, property by property (proofs: methods/laat/anchors.py), and what not."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods.laat.anchors import Expansion, expanded_by_rotations, turn_to_first_axis
from vlm_gauntlet.methods.laat.topology import nearest, neighbours_kept, pair_similarities, rank_correlation

EXACT = 1e-9
NARROW = st.floats(0.05, 0.8)  # spread around a direction, as class texts lie


def drawn(seed: int, classes: int, dimensions: int, spread: float) -> Tensor:
    """Unit anchors [K, D] around a random direction."""
    generator = torch.Generator().manual_seed(seed)
    centre = F.normalize(torch.randn(dimensions, generator=generator, dtype=torch.float64), dim=0)
    noise = torch.randn(classes, dimensions, generator=generator, dtype=torch.float64) / dimensions**0.5
    return F.normalize(centre + spread * noise, dim=-1)


@st.composite
def anchor_sets(draw: st.DrawFn, classes: int = 3) -> Tensor:
    """At least so many classes, in two dimensions or more."""
    seed, count, dimensions = draw(st.integers(0, 2**32)), draw(st.integers(classes, 12)), draw(st.integers(2, 16))
    return drawn(seed, count, dimensions, draw(NARROW))


def at(*places: tuple[float, float]) -> Tensor:
    """Points on the sphere in three dimensions by polar angle and azimuth around the first axis, in degrees."""
    angles = torch.tensor(places, dtype=torch.float64).deg2rad()
    polar, azimuth = angles[:, 0], angles[:, 1]
    return torch.stack([polar.cos(), polar.sin() * azimuth.cos(), polar.sin() * azimuth.sin()], dim=1)


def angles_between(first: Tensor, second: Tensor) -> Tensor:
    """In degrees; from the chord and its complement, exact for small and large angles."""
    return 2 * torch.atan2((first - second).norm(dim=-1), (first + second).norm(dim=-1)).rad2deg()


@given(anchor_sets())
def test_lengths_directions_and_ratios_of_polar_angles_are_kept(anchors: Tensor) -> None:
    """1, 2, 3, 4."""
    expansion = Expansion.fit(anchors[:-1])  # the last one is a later class
    moved = expansion(anchors)
    before, directions = expansion.polar(anchors)
    after, turned = expansion.polar(moved)
    assume(before.min() > 1e-3 and (expansion.factor * before).max() < math.pi - 1e-3)
    assert torch.allclose(moved.norm(dim=-1), torch.ones(len(moved), dtype=torch.float64), atol=EXACT, rtol=0)
    assert torch.allclose(directions, turned, atol=1e-7)
    assert torch.allclose(after, expansion.factor * before, atol=EXACT)
    assert after[:-1].max().item() == pytest.approx(math.pi / 2, abs=EXACT)
    assert (moved @ expansion.pole)[:-1].min().item() == pytest.approx(0, abs=EXACT)


@given(st.floats(1, 80), st.floats(1, 80), st.floats(0.3, 2.5), st.booleans())
def test_angles_through_the_pole_are_multiplied(p: float, q: float, factor: float, opposite: bool) -> None:
    """5."""
    assume(factor * (p + q) <= 179 and abs(p - q) > 0.1)
    pair = at((p, 30), (q, 210 if opposite else 30))
    moved = Expansion(at((0, 0))[0], torch.tensor(factor, dtype=torch.float64))(pair)
    found = angles_between(moved[0], moved[1]).item()
    assert found == pytest.approx(factor * (p + q if opposite else abs(p - q)), abs=1e-7)


@given(st.floats(5, 60), st.floats(0, 175), st.floats(0, 175), st.floats(0.5, 2.9))
def test_the_order_among_anchors_of_one_polar_angle_is_kept(p: float, v: float, w: float, factor: float) -> None:
    """6."""
    assume(abs(v - w) > 0.1)
    moved = Expansion(at((0, 0))[0], torch.tensor(factor, dtype=torch.float64))(at((p, 0), (p, v), (p, w)))
    similar = moved[1:] @ moved[0]
    assert (similar[0] > similar[1]) == (v < w)


@given(anchor_sets())
def test_different_anchors_stay_different_and_equal_ones_equal(anchors: Tensor) -> None:
    """7: the map by the inverse factor undoes it."""
    expansion = Expansion.fit(anchors)
    back = Expansion(expansion.pole, 1 / expansion.factor)
    assert torch.allclose(back(expansion(anchors)), anchors, atol=1e-7)
    assert torch.equal(expansion(anchors[:1]), expansion(torch.cat([anchors[:1]])))


@given(anchor_sets(), st.integers(0, 2**32))
def test_it_turns_with_the_space_and_ignores_the_order_of_classes(anchors: Tensor, seed: int) -> None:
    """8."""
    generator = torch.Generator().manual_seed(seed)
    size = anchors.shape[1]
    turn, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    order = torch.randperm(len(anchors), generator=generator)
    moved = Expansion.fit(anchors)(anchors)
    turned = anchors @ turn
    assert torch.allclose(Expansion.fit(turned)(turned), moved @ turn, atol=1e-8)
    assert torch.allclose(Expansion.fit(anchors[order])(anchors[order]), moved[order], atol=1e-8)


@settings(max_examples=300)
@given(anchor_sets())
def test_no_pair_of_training_anchors_comes_closer(anchors: Tensor) -> None:
    """9."""
    expansion = Expansion.fit(anchors)
    assume(expansion.factor >= 1)
    assert (pair_similarities(expansion(anchors)) <= pair_similarities(anchors) + EXACT).all()


@given(anchor_sets(classes=2))
def test_two_classes_become_antipodes(anchors: Tensor) -> None:
    """10."""
    pair = anchors[:2]
    assume(angles_between(pair[0], pair[1]) > 0.1)
    assert torch.allclose(Expansion.fit(pair)(pair).sum(0), torch.zeros(pair.shape[1], dtype=torch.float64), atol=1e-8)


@given(anchor_sets(), st.integers(2, 12))
def test_rotating_stretching_and_rotating_back_is_the_closed_form(anchors: Tensor, training: int) -> None:
    training = min(training, len(anchors))
    expansion = Expansion.fit(anchors[:training])
    assume((expansion.factor * expansion.polar(anchors)[0]).max() < math.pi)
    assert torch.allclose(expanded_by_rotations(anchors, training), expansion(anchors), atol=1e-6)


def test_givens_rotations_reach_the_first_axis_past_zeros() -> None:
    """The official step divides 0 by 0 where two coordinates that follow each other are 0."""
    for pole in ([-1.0, 0.0, 0.0, 0.0], [0.0, 0.6, 0.0, 0.0], [0.5, 0.0, 0.0, -2.0]):
        unit = F.normalize(torch.tensor(pole, dtype=torch.float64), dim=0)
        turn = turn_to_first_axis(unit)
        assert torch.allclose(turn @ unit, torch.eye(4, dtype=torch.float64)[0])
        assert torch.allclose(turn @ turn.T, torch.eye(4, dtype=torch.float64))
        assert torch.linalg.det(turn).item() == pytest.approx(1)


A, B, C, D = (10.0, 0.0), (10.0, 180.0), (40.0, 16.0), (40.0, -16.0)
SIX = (A, B, C, D, (40.0, 196.0), (40.0, 164.0))  # the mirrors of C and D: the pole is the first axis


def test_the_order_of_pairs_is_not_kept() -> None:
    """AB is 20 degrees and CD 20.41; k = 90 / 40, so that AB becomes 45 and CD, on the equator now, 32."""
    anchors = at(*SIX)
    expansion = Expansion.fit(anchors)
    moved = expansion(anchors)
    assert torch.allclose(expansion.pole, at((0, 0))[0]) and expansion.factor.item() == pytest.approx(2.25)
    assert angles_between(anchors[[0, 2]], anchors[[1, 3]]).tolist() == pytest.approx([20.0, 20.41], abs=0.005)
    assert angles_between(moved[[0, 2]], moved[[1, 3]]).tolist() == pytest.approx([45.0, 32.0])
    assert rank_correlation(anchors, moved) < 1


def test_nearest_neighbours_are_not_kept() -> None:
    """C at (40, 25) has A at (10, 0) for its neighbour, 31.18 degrees away, and E at (40, 90) at 40.4.

    With k = 2.25 A goes to 22.5 and C and E to the equator: then C is 69.71 from A, and 65 from E.
    """
    anchors = at(A, B, (40, 25), (40, 205), (40, 90), (40, 270))
    moved = Expansion.fit(anchors)(anchors)
    from_c = [angles_between(points[[2, 2]], points[[0, 4]]).tolist() for points in (anchors, moved)]
    assert from_c[0] == pytest.approx([31.18, 40.41], abs=0.005)
    assert from_c[1] == pytest.approx([69.71, 65.0], abs=0.005)
    assert (nearest(anchors)[2], nearest(moved)[2]) == (0, 4)
    assert neighbours_kept(anchors, moved) == pytest.approx(4 / 6), "C and its mirror have others"


def test_the_mean_is_not_kept_so_that_a_second_expansion_moves_anchors_again() -> None:
    anchors = drawn(3, 9, 6, 0.5)
    once = Expansion.fit(anchors)
    moved = once(anchors)
    twice = Expansion.fit(moved)
    assert angles_between(once.pole, twice.pole) > 0.1 and (twice(moved) - moved).abs().max() > 1e-3


def test_anchors_beyond_a_right_angle_are_pulled_in() -> None:
    """k < 1: the pair at 100 degrees from the pole comes to 90, and two others come closer."""
    anchors = at((100, 0), (100, 180), (0, 0), (1, 90), (1, 270), (10, 0), (10, 180))
    expansion = Expansion.fit(anchors)
    moved = expansion(anchors)
    assert expansion.factor.item() == pytest.approx(0.9)
    pairs = [angles_between(points[5], points[6]).item() for points in (anchors, moved)]
    assert pairs == pytest.approx([20, 18])


def test_later_classes_beyond_the_training_anchors_may_come_closer() -> None:
    """Fitted up to 40 degrees, k = 2.25. At 60 they go to 135: sin 135 < sin 60, and 20 degrees of azimuth shrink."""
    expansion = Expansion.fit(at(*SIX))
    later = at((60, 0), (60, 20))
    moved = expansion(later)
    assert angles_between(later[0], later[1]).item() == pytest.approx(17.30, abs=0.005)
    assert angles_between(moved[0], moved[1]).item() == pytest.approx(14.11, abs=0.005)


def test_degenerate_anchors_are_refused_or_stay() -> None:
    expansion = Expansion.fit(at(*SIX))
    assert torch.equal(expansion(expansion.pole), expansion.pole), "the official code gives NaN here"
    with pytest.raises(GauntletError, match="opposite to the pole"):
        expansion(-expansion.pole)
    with pytest.raises(GauntletError, match="all the same"):
        Expansion.fit(at((10, 5), (10, 5)))
    with pytest.raises(GauntletError, match="mean is zero"):
        Expansion.fit(at((0, 0), (180, 0)))


def test_measures_of_order_by_hand() -> None:
    """Three points on a circle at 0, 10 and 30 degrees; moving the last to 15 turns the middle one's neighbour over."""
    before, after = at((0, 0), (10, 0), (30, 0)), at((0, 0), (10, 0), (15, 0))
    assert nearest(before).tolist() == [1, 0, 1] and nearest(after).tolist() == [1, 2, 1]
    assert neighbours_kept(before, after) == pytest.approx(2 / 3)
    # Pairs (01, 02, 12): ranks of similarity 3, 1, 2 before and 2, 1, 3 after: 1 - 6 (1 + 0 + 1) / (3 * 8).
    assert rank_correlation(before, after) == pytest.approx(0.5)
