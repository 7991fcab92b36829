"""The image step of Co-Attack, SGA and DRA: in the ball, one image at a time, and what it becomes at its limits."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.balls import outside
from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.multimodal.ascent import PairAscent
from vlm_gauntlet.attacks.multimodal.co_attack import CoAttack
from vlm_gauntlet.attacks.multimodal.dra import DRA
from vlm_gauntlet.attacks.multimodal.paired import Paired
from vlm_gauntlet.attacks.multimodal.sga import SGA
from vlm_gauntlet.attacks.text.objectives import kl
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import GauntletError

EPS = 8 / 255
KEYS = (1, 2, 3, 4, 5, 6)
LABELS = torch.arange(6) % 5
ATTACKS = (CoAttack("linf", EPS, steps=4), SGA("linf", EPS, steps=4), DRA("linf", EPS, steps=4))


@pytest.fixture(scope="module")
def victim(tiny_backbone: Backbone) -> Paired:
    """The tiny backbone in float64, so that rounding plays no part; random guides and classes."""
    tower = copy.deepcopy(tiny_backbone).double()
    generator = torch.Generator().manual_seed(2)
    guides, classes = (F.normalize(torch.randn(n, 16, generator=generator).double(), dim=1) for n in (6, 5))
    return Paired(tower, guides, lambda features: features @ classes.T)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
def test_it_climbs_inside_the_ball_and_repeats(attack: PairAscent, victim: Paired, images: Tensor) -> None:
    result = attack(victim, images, LABELS, KEYS)
    assert not outside(result.images, images, norm="linf", eps=EPS).any() and not result.repaired.any()
    assert (result.telemetry["last_loss"] > result.telemetry["first_loss"]).all()
    assert torch.equal(attack(victim, images, LABELS, KEYS).images, result.images)
    assert not torch.equal(attack(victim, images, LABELS, KEYS[::-1]).images, result.images)
    assert torch.equal(result.success, victim(result.images).argmax(1) != LABELS)
    assert all(p.grad is None for p in victim.tower.parameters())


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
def test_neighbours_and_order_change_nothing(attack: PairAscent, victim: Paired, images: Tensor) -> None:
    together = attack(victim, images, LABELS, KEYS).images
    for i in (4, 1):
        alone = attack(victim.select(torch.tensor([i])), images[i : i + 1], LABELS[i : i + 1], KEYS[i : i + 1])
        assert torch.equal(alone.images[0], together[i])


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
def test_without_a_budget_nothing_moves(attack: PairAscent, victim: Paired, images: Tensor) -> None:
    frozen = type(attack)("linf", 0.0, steps=2)
    assert torch.equal(frozen(victim, images, LABELS, KEYS).images, images)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda a: type(a).__name__)
def test_it_tells_where_it_stood_one_step_earlier(attack: PairAscent, victim: Paired, images: Tensor) -> None:
    shorter = replace(attack, steps=attack.steps - 1)
    before = attack(victim, images, LABELS, KEYS).previous
    assert before is not None and torch.equal(before, shorter(victim, images, LABELS, KEYS).images)


def test_co_attack_is_the_sum_of_its_two_distances(victim: Paired, images: Tensor) -> None:
    clean, moved = victim.features(images), victim.features(1 - images)
    own, cross = kl(clean, moved), kl(victim.guides, moved)
    for alpha in (0.0, 3.0):
        value = CoAttack("linf", EPS, alpha=alpha).loss(victim, 1 - images, clean, Draws(KEYS))
        torch.testing.assert_close(value, own + alpha * cross)


def test_it_starts_in_the_whole_ball_or_as_coded_above_the_image(victim: Paired, images: Tensor) -> None:
    """delta ~ U(0, eps) in the code: with no step, never below the clean image, and eps / 2 above it on average."""
    grey = images / 2 + 0.25
    whole, above = (
        CoAttack("linf", EPS, steps=0, random_start=start)(victim, grey, LABELS, KEYS).images - grey
        for start in (True, "one-sided")
    )
    assert -EPS - 1e-6 <= whole.min() < -0.9 * EPS and whole.mean().abs() < 0.1 * EPS
    assert above.min() >= -1e-6 and 0.45 * EPS < above.mean() < 0.55 * EPS and above.max() <= EPS + 1e-6
    torch.testing.assert_close(above, (whole + EPS) / 2)  # the same draws, on half the length


def test_with_alpha_0_the_sentences_do_not_matter(victim: Paired, images: Tensor) -> None:
    others = Paired(victim.tower, -victim.guides, victim.decide)
    for alpha, same in ((0.0, True), (3.0, False)):
        attack = CoAttack("linf", EPS, steps=3, alpha=alpha)
        one, other = (attack(v, images, LABELS, KEYS).images for v in (victim, others))
        assert torch.equal(one, other) == same


def test_sga_at_one_scale_is_pgd_on_the_cosine(victim: Paired, images: Tensor) -> None:
    attack = SGA("linf", EPS, steps=3, step_size=0.25, scales=())
    moved = images + Draws(KEYS).uniform(images, -EPS, EPS)
    moved = moved.clamp(images - EPS, images + EPS).clamp(0, 1)
    for _ in range(3):
        inputs = moved.requires_grad_()
        cosine = F.cosine_similarity(victim.tower.encode_image(inputs), victim.guides)
        (gradient,) = torch.autograd.grad(cosine.sum(), inputs)
        moved = (inputs.detach() - 0.25 * EPS * gradient.sign()).clamp(images - EPS, images + EPS).clamp(0, 1)
    torch.testing.assert_close(attack(victim, images, LABELS, KEYS).images, moved)


def test_sga_reads_all_sentences_and_co_attack_the_last() -> None:
    sentences = torch.eye(3)
    assert torch.equal(SGA("linf", EPS).guide(sentences), torch.ones(3))
    assert torch.equal(CoAttack("linf", EPS).guide(sentences), sentences[2])


def test_scaled_copies_keep_their_size_and_their_own_noise(images: Tensor) -> None:
    attack, draws = SGA("linf", EPS), Draws(KEYS)
    one, other = attack._scaled(images, 0.5, draws), attack._scaled(images, 0.5, draws)
    assert one.shape == images.shape and not torch.equal(one, other)
    flat = torch.full_like(images, 0.5)
    torch.testing.assert_close(SGA("linf", EPS, noise=0.0)._scaled(flat, 1.5, draws), flat)


def test_a_victim_without_sentences_is_refused(images: Tensor) -> None:
    with pytest.raises(GauntletError, match="modality `both`"):
        CoAttack("linf", EPS)(Plain(lambda x: x.flatten(1)), images, LABELS, KEYS)
