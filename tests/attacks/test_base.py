"""The base class: bad input is refused in words, an attack cannot lie about itself."""

from dataclasses import dataclass

import pytest
import torch

from vlm_gauntlet.attacks.base import Attack, Plain
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError

from .conftest import classifier

GOOD = torch.full((2, 3, 4, 4), 0.25)
LABELS = torch.zeros(2, dtype=torch.long)
VICTIM = Plain(classifier(torch.ones(48), bias=-24.0))  # class 1 when the mean is above 1/2


@dataclass
class Returns(Attack):
    """Returns what it is told to."""

    images: torch.Tensor = None

    def perturb(self, run):
        return self.images


def attack(images, clean=GOOD, eps=0.1):
    return Returns("linf", eps, images)(VICTIM, clean, LABELS[: len(clean)], tuple(range(len(clean))))


def with_pixel(value):
    images = GOOD.clone()
    images[0, 0, 0, 0] = value
    return images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (with_pixel(float("nan")), "NaN or infinite"),
        (with_pixel(float("inf")), "NaN or infinite"),
        (with_pixel(1.5), r"images in \[0.25, 1.5\]"),
        (with_pixel(-0.5), "do not normalise"),
        (GOOD.double(), "dtype torch.float64"),
        ((GOOD * 255).byte(), "dtype torch.uint8"),
        (GOOD[0], r"shape \(3, 4, 4\)"),
        (GOOD[:, :1], r"shape \(2, 1, 4, 4\)"),
        (GOOD[:0], r"shape \(0, 3, 4, 4\)"),
    ],
)
def test_bad_images_are_refused_in_words(images, message):
    with pytest.raises(GauntletError, match=message) as caught:
        attack(images, clean=images)
    assert caught.value.expected and caught.value.fix and caught.value.where == "Returns"


@pytest.mark.parametrize(("labels", "keys"), [(LABELS[:1], (0, 1)), (LABELS, (0,)), (LABELS[:, None], (0, 1))])
def test_labels_and_keys_must_match(labels, keys):
    with pytest.raises(GauntletError, match="keys for 2 images"):
        Returns("linf", 0.1, GOOD)(VICTIM, GOOD, labels, keys)


def test_an_image_outside_is_repaired_and_reported_by_name():
    result = attack(torch.stack([GOOD[0], torch.ones(3, 4, 4)]))
    assert result.repaired.tolist() == [False, True]
    assert any(note.startswith("out-of-ball: 1 of 2") for note in result.notes)
    assert (result.images - GOOD).abs().max() <= 0.1 + 1e-6


def test_a_lying_attack_is_caught():
    """White pictures are class 1, but no point of the ball is."""
    white = torch.ones_like(GOOD)
    assert (VICTIM(white).argmax(1) != LABELS).all()
    assert not attack(white).success.any()


def test_an_honest_success_stays():
    result = attack(torch.full_like(GOOD, 0.6), eps=0.4)
    assert result.success.all() and not result.repaired.any() and not result.notes


@pytest.mark.parametrize("images", [GOOD[:1], with_pixel(float("nan"))])
def test_wrong_shape_or_nan_from_an_attack_breaks_its_contract(images):
    with pytest.raises(ContractError, match=r"Returns returned"):
        attack(images)
