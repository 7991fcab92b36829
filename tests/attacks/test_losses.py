"""Losses against their formulas."""

import pytest
import torch

from vlm_gauntlet.attacks.losses import (
    LOSSES,
    TARGETED,
    cross_entropy,
    cw,
    dlr,
    margin,
    probability_margin,
    targeted_cross_entropy,
    targeted_dlr,
    wrong_classes,
)

LOGITS = torch.tensor([[3.0, 1.0, 0.0, -1.0], [0.5, 2.0, 1.0, 1.5]])
LABELS = torch.tensor([0, 3])


def test_margin_is_positive_exactly_when_misclassified():
    assert margin(LOGITS, LABELS).tolist() == [-2.0, 0.5]
    many = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) % 6
    assert torch.equal(margin(many, labels) > 0, many.argmax(1) != labels)


def test_the_probability_margin_by_hand_and_its_gradient():
    """Probabilities 4/8, 3/8, 1/8; the gradient is p_y of the cross-entropy's and p_max of the targeted one's."""
    logits = torch.tensor([[4.0, 3.0, 1.0], [3.0, 4.0, 1.0]], dtype=torch.float64).log().requires_grad_()
    labels, best = torch.tensor([0, 0]), torch.tensor([1, 1])
    values = probability_margin(logits, labels)
    assert values.tolist() == pytest.approx([-1 / 8, 1 / 8])
    (gradient,) = torch.autograd.grad(values.sum(), logits)
    parts = cross_entropy(logits, labels), targeted_cross_entropy(best, logits, labels)
    away, towards = (torch.autograd.grad(part.sum(), logits)[0] for part in parts)
    own, other = (logits.detach().softmax(1).gather(1, index[:, None]) for index in (labels, best))
    torch.testing.assert_close(gradient, own * away + other * towards)


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
    torch.testing.assert_close(loss(LOGITS, LABELS)[1:], loss(LOGITS[1:], LABELS[1:]))


def test_cw_by_hand_and_its_rest():
    """-relu(z_y - max_other + kappa): the margins are -2 and 0.5."""
    assert cw(LOGITS, LABELS, 50.0).tolist() == [-52.0, -49.5]
    assert cw(LOGITS, LABELS, 0.0).tolist() == [-2.0, 0.0]
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cw(logits, LABELS, 0.0).sum(), logits)
    assert gradient.tolist() == [[-1.0, 1.0, 0.0, 0.0], [0.0] * 4]


def test_targeted_losses_by_hand():
    target = torch.tensor([2, 0])
    expected = LOGITS[torch.arange(2), target] - LOGITS.logsumexp(1)
    assert torch.allclose(targeted_cross_entropy(target, LOGITS, LABELS), expected)
    assert targeted_dlr(target, LOGITS, LABELS).tolist() == pytest.approx([-3 / 3.5, -1 / 1.25])
    moved = targeted_dlr(target, 100 * LOGITS + 7, LABELS)
    assert torch.allclose(moved, targeted_dlr(target, LOGITS, LABELS), atol=1e-5)


@pytest.mark.parametrize("name", TARGETED)
def test_targeted_losses_rise_with_the_target_and_belong_to_samples(name):
    loss, target = TARGETED[name], torch.tensor([1, 2])
    nearer = LOGITS + 0.1 * torch.nn.functional.one_hot(target, 4)
    assert (loss(target, nearer, LABELS) > loss(target, LOGITS, LABELS)).all()
    torch.testing.assert_close(loss(target, LOGITS, LABELS)[1:], loss(target[1:], LOGITS[1:], LABELS[1:]))


def test_wrong_classes_by_rank_and_ties_by_index():
    assert wrong_classes(LOGITS, LABELS).tolist() == [[1, 2, 3], [1, 2, 0]]
    assert wrong_classes(torch.zeros(1, 5), torch.tensor([2])).tolist() == [[0, 1, 3, 4]]
    assert wrong_classes(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long)).shape == (3, 0)
