"""Step control: lengths, momentum, halving where a loss does not rise; one sample at a time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_gauntlet.attacks.adaptive.step_control import AutoStep, Cosine, StepControl, _checkpoints, along
from vlm_gauntlet.attacks.balls import lp_norm, outside

SHAPE = (4, 3, 4, 4)


def noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def test_the_cosine_begins_with_the_whole_radius_and_ends_with_nearly_nothing() -> None:
    clean = torch.full(SHAPE, 0.5)
    walk, lengths = Cosine(clean, "linf", 0.1, 20, momentum=0.0), []
    for step in range(20):
        walk.velocity.zero_()
        sign = 1.0 if step == 0 else -1.0 if step == 1 else 1.0
        before = clean + 0.1 if step == 1 else clean
        lengths.append(float((walk(before, sign * torch.ones(SHAPE), torch.zeros(4)) - before).abs().max()))
    assert lengths[0] == pytest.approx(0.1) and lengths[-1] < 0.001
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[10] == pytest.approx(0.05)


def test_momentum_remembers_pixels_that_a_gradient_leaves_out() -> None:
    clean, first, second = torch.full(SHAPE, 0.5), torch.zeros(SHAPE), torch.zeros(SHAPE)
    first[:, 0], second[:, 1] = 1.0, 1.0
    for momentum, moves in ((0.9, True), (0.0, False)):
        walk = Cosine(clean, "linf", 0.1, 20, momentum=momentum)
        walk(clean, first, torch.zeros(4))
        again = walk(clean, second, torch.zeros(4))
        assert bool((again[:, 0] > 0.5).all()) == moves and (again[:, 1] > 0.5).all()


def test_the_checkpoints_of_a_hundred_steps_are_the_papers() -> None:
    assert _checkpoints(100)[:8] == [22, 41, 57, 70, 80, 87, 93, 99]


def test_a_loss_that_rises_keeps_the_step_and_one_that_does_not_halves_it_and_goes_back() -> None:
    clean = torch.full(SHAPE, 0.5)
    walk, images = AutoStep(clean, "linf", 0.1, 20), clean
    for step in range(6):
        values = torch.tensor([float(step), float(step), -float(step), -float(step)])
        if step == 5:
            assert walk.taken in walk.checks
        images = walk(images, noise(step), values)
    assert walk.length.tolist() == pytest.approx([0.2, 0.2, 0.1, 0.1])
    assert torch.equal(walk.best[2:], clean[2:]) and not torch.equal(walk.best[:2], clean[:2])
    assert torch.equal(walk.end(images), walk.best)


@pytest.mark.parametrize("kind", [Cosine, AutoStep])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), norm=st.sampled_from(["linf", "l2"]), eps=st.sampled_from([0.0, 0.03, 0.5]))
def test_no_step_leaves_the_ball_and_no_neighbour_matters(
    kind: type[Cosine | AutoStep], seed: int, norm: str, eps: float
) -> None:
    clean = torch.rand(SHAPE, generator=torch.Generator().manual_seed(seed))
    whole: StepControl = kind(clean, norm, eps, 8)
    part: StepControl = kind(clean, norm, eps, 8).kept(torch.tensor([2, 0]))
    images, few = clean, clean[[2, 0]]
    for step in range(8):
        gradient, values = noise(seed + step), noise(seed - step).flatten(1)[:, 0]
        images, few = whole(images, gradient, values), part(few, gradient[[2, 0]], values[[2, 0]])
        assert not outside(images, clean, norm=norm, eps=eps).any()
        assert torch.equal(images[[2, 0]], few)
        if step == 4:
            part, few = part.kept(torch.tensor([0, 1])), few


def test_a_step_has_length_one() -> None:
    assert along(noise(1), "linf").abs().unique().tolist() == [1.0]
    assert lp_norm(along(noise(1), "l2"), "l2").tolist() == pytest.approx([1.0] * 4)
