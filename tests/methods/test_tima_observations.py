"""TIMA's three observations as numbers: values by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from vlm_gauntlet.methods.laat.anchors import Expansion
from vlm_gauntlet.methods.tima.observations import (
    logit_margins,
    margin_by_similarity,
    margin_offset,
    pair_margins,
    semantic_consistency,
)

LABELS = torch.tensor([0, 0, 2])
LOGITS = torch.tensor([[5.0, 1.0, 2.0], [1.0, 3.0, 0.0], [0.0, 4.0, 8.0]])


def test_a_margin_is_to_the_best_other_class() -> None:
    assert logit_margins(LOGITS, LABELS).tolist() == [3, -2, 4]


def test_offset_of_margins() -> None:
    """Margins 3, -2, 4 and 1, -3, 4: offsets 2, 1, 0, and the same order."""
    large = LOGITS.clone()
    large[0, 0], large[1, 0] = 3.0, 0.0
    offset = margin_offset(LOGITS, large, LABELS)
    assert offset == (pytest.approx(1), pytest.approx(1), pytest.approx(1))


def test_pair_margins_are_means_of_a_class() -> None:
    """Class 0: (4, -2) against 1 and (3, 1) against 2; class 2: 8 and 4; class 1 has no image."""
    found = pair_margins(LOGITS, LABELS)
    assert found[0].tolist() == [0, 1, 2] and found[2].tolist() == [8, 4, 0] and found[1].isnan().all()


def test_margin_by_similarity_ranks_pairs() -> None:
    """Pairs 01, 02, 20, 21 have margins 1, 2, 8, 4. Texts at 0, 30 and 100 degrees: cosines by rank 4, 1.5, 1.5, 3.

    Ranks 1, 2, 4, 3 against 4, 1.5, 1.5, 3: covariance -1.75 / 4, deviations sqrt(5 / 4) and sqrt(4.5 / 4).
    """
    angles = torch.tensor([0.0, 30.0, 100.0]).deg2rad()
    texts = torch.stack([angles.cos(), angles.sin()], dim=1)
    ranks, others = torch.tensor([1.0, 2, 4, 3]), torch.tensor([4.0, 1.5, 1.5, 3])
    expected = F.cosine_similarity(ranks - 2.5, others - 2.5, dim=0).item()
    assert margin_by_similarity(LOGITS, LABELS, texts) == pytest.approx(expected)


def test_margins_of_images_at_their_texts_fall_with_similarity() -> None:
    """z_y - z_c = 1 - cos(t_y, t_c): the part that is arithmetic has correlation -1."""
    texts = F.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), dim=-1)
    assert margin_by_similarity(texts @ texts.T, torch.arange(6), texts) < -0.99  # two orders of a pair tie


def test_consistency_of_texts_that_stay_and_of_texts_that_change_places() -> None:
    angles = torch.tensor([0.0, 90.0, 200.0]).deg2rad()  # the first two classes change places
    texts = F.normalize(torch.stack([angles.cos(), angles.sin()], dim=1), dim=-1)
    features = texts[:2]
    stay = semantic_consistency(features, texts, texts, 100.0)
    assert stay.divergence == pytest.approx(0, abs=1e-6) and stay.agreement == stay.neighbours == 1
    swapped = semantic_consistency(features, texts, texts[[1, 0, 2]], 1.0)
    # softmax(1, 0, c) against softmax(0, 1, c): (e - 1) / (e + 1 + exp c), with c = cos 200 and cos 110 degrees.
    thirds = [math.exp(math.cos(math.radians(angle))) for angle in (200, 110)]
    expected = sum((math.e - 1) / (math.e + 1 + third) for third in thirds) / 2
    assert swapped.divergence == pytest.approx(expected, abs=1e-5) and swapped.agreement == 0


def test_an_expansion_changes_predictions_and_may_change_neighbours() -> None:
    """Texts in a narrow cone, as CLIP's: the order of pairs nearly stays, the predictions do not."""
    generator = torch.Generator().manual_seed(0)
    centre, noise = torch.randn(1, 32, generator=generator), torch.randn(20, 32, generator=generator)
    texts = F.normalize(F.normalize(centre, dim=-1) + 0.08 * noise, dim=-1)
    features = F.normalize(texts + 0.1 * torch.randn(20, 32, generator=generator), dim=-1)
    found = semantic_consistency(features, texts, Expansion.fit(texts)(texts), 50.0)
    assert found.divergence > 0.01 and found.ranks > 0.9 and found.neighbours <= 1
