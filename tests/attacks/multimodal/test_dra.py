"""DRA's step: which point of the triangle it looks from, and where what it saw is applied."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.multimodal.dra import DRA
from vlm_gauntlet.attacks.multimodal.paired import Paired
from vlm_gauntlet.attacks.multimodal.sga import SGA
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws

EPS = 0.1  # a step is 0.025
KEYS = (1, 2)
CORNERS = torch.eye(3)


@dataclass
class Fixed(DRA):
    """Looks at the same combinations in each step, so that the right pick can be told by hand."""

    table: Tensor = CORNERS

    def _weights(self, images: Tensor, draws: Draws) -> Tensor:
        return self.table.to(images).expand(len(images), -1, -1)


class Brightness(Paired):
    """A model of one feature, the mean brightness: with a guide of -1 the loss is the brightness, with 1 its minus."""

    def features(self, images: Tensor) -> Tensor:
        return images.mean((1, 2, 3))[:, None]


class Distance(Paired):
    """A model of one feature, the distance of the mean brightness from 0.5."""

    def features(self, images: Tensor) -> Tensor:
        return (images.mean((1, 2, 3))[:, None] - 0.5).abs()


def grey(*levels: float) -> Tensor:
    return torch.tensor(levels)[:, None, None, None].expand(-1, 3, 4, 4).clone()


def bare(kind: type[Paired], tower: Backbone, *guides: float) -> Paired:
    return kind(tower, torch.tensor(guides)[:, None], lambda features: features)


def test_each_image_picks_the_view_with_the_highest_loss(tiny_backbone: Backbone) -> None:
    victim = bare(Brightness, tiny_backbone, -1.0, 1.0)
    here, before, clean = grey(0.50, 0.50), grey(0.53, 0.53), grey(0.48, 0.48)
    view = Fixed("linf", EPS).viewpoint(victim, here, before, clean, Draws(KEYS))
    torch.testing.assert_close(view, grey(0.53, 0.48))


def test_a_view_is_judged_one_step_further(tiny_backbone: Backbone) -> None:
    """0.49 is nearest to the top of the loss, at 0.5; but a step of 0.025 from 0.475 ends there."""
    victim = bare(Distance, tiny_backbone, 1.0)
    view = Fixed("linf", EPS).viewpoint(victim, grey(0.49), grey(0.475), grey(0.53), Draws(KEYS[:1]))
    torch.testing.assert_close(view, grey(0.475))


def test_the_step_that_judges_ends_in_the_ball(tiny_backbone: Backbone) -> None:
    """Both views would step out of the ball, to 0.615 and 0.61; inside they tie, and the first one stays."""
    victim = bare(Brightness, tiny_backbone, -1.0)
    attack = Fixed("linf", EPS, table=CORNERS[[2, 0]])
    view = attack.viewpoint(victim, grey(0.59), grey(0.585), grey(0.5), Draws(KEYS[:1]))
    torch.testing.assert_close(view, grey(0.585))


def test_what_was_seen_elsewhere_is_applied_here(tiny_backbone: Backbone) -> None:
    """Seen from the clean image alone, the way up never turns, though the top at 0.5 is passed on it."""
    victim = bare(Distance, tiny_backbone, 1.0)
    clean = grey(0.49)
    attack = Fixed("linf", EPS, steps=7, scales=(), table=CORNERS[[1]])
    moved = attack(victim, clean, torch.tensor([0]), KEYS[:1]).images
    start = (clean + Draws(KEYS[:1]).uniform(clean, -EPS, EPS)).clamp(0.39, 0.59)
    assert start.mean() < 0.5  # so that the first step, taken at the start, goes up as well
    torch.testing.assert_close(moved, (start + 7 * 0.025).clamp(max=0.59))


NO_OTHER_VIEW = (DRA("linf", EPS, steps=3, combinations=0), Fixed("linf", EPS, steps=3, table=CORNERS[[0]]))


@pytest.mark.parametrize("attack", NO_OTHER_VIEW, ids=("no combinations", "all weight on the current image"))
def test_seen_from_the_current_image_it_is_sga(attack: DRA, tiny_backbone: Backbone, images: Tensor) -> None:
    guides = torch.randn(2, 16, generator=torch.Generator().manual_seed(2))
    victim = Paired(tiny_backbone, guides, lambda features: features)
    one, other, whole = (
        a(victim, images[:2], torch.tensor([0, 1]), KEYS).images
        for a in (attack, SGA("linf", EPS, steps=3), DRA("linf", EPS, steps=3))
    )
    assert torch.equal(one, other) and not torch.equal(one, whole)


def test_weights_are_uniform_on_the_triangle_and_each_samples_own(images: Tensor) -> None:
    attack = DRA("linf", EPS, combinations=4000)
    weights = attack._weights(images[:2], Draws(KEYS))
    assert weights.shape == (2, 4000, 3) and (weights >= 0).all()
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 4000))
    torch.testing.assert_close(weights.mean(1), torch.full((2, 3), 1 / 3), atol=0.02, rtol=0)
    torch.testing.assert_close(weights.var(1), torch.full((2, 3), 1 / 18), atol=0.005, rtol=0)
    assert torch.equal(attack._weights(images[1:2], Draws(KEYS[1:]))[0], weights[1])
