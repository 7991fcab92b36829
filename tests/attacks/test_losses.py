"""Losses against their formulas."""

import pytest
import torch

from vlm_gauntlet.attacks.losses import LOSSES, cross_entropy, dlr, margin

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.5, 2.0, 1.0, 1.5]])
LABELS = torch.tensor([0, 3])


def test_margin_is_positive_exactly_when_misclassified():
    assert margin(LOGITS, LABELS).tolist() == [-2.0, 0.5]
    many = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 6
    assert torch.equal(margin(many, labels) > 0, many.argmax(1) != labels)


def test_dlr_by_hand():
    assert dlr(LOGITS, LABELS).tolist() == pytest.approx([-2 / 3, 0.5 / 1.0])


def test_dlr_sees_neither_shift_nor_scale_but_cross_entropy_does():
    moved = 100 * LOGITS + 7
    assert torch.allclose(dlr(moved, LABELS), dlr(LOGITS, LABELS), atol=1e-5)
    assert not torch.allclose(cross_entropy(moved, LABELS), cross_entropy(LOGITS, LABELS), atol=1e-3)


def test_cross_entropy_by_hand():
    expected = LOGITS.logsumexp(1) - LOGITS[torch.arange(2), LABELS]
    assert torch.allclose(cross_entropy(LOGITS, LABELS), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_belong_to_samples(name):
    loss = LOSSES[name]
    assert loss(LOGITS, LABELS).shape == (2,)
    assert torch.equal(loss(LOGITS, LABELS)[1:], loss(LOGITS[1:], LABELS[1:]))
