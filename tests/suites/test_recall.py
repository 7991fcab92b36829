"""R@k and both success rates on cases worked out by hand."""

import pytest
import torch
from pydantic import ValidationError

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites.recall import Ranks, ranks

OWNER = torch.tensor([0, 0, 1, 2])
SIMILARITY = torch.tensor([
    [0.9, 0.1, 0.5, 0.3],  # the best own caption leads: rank 0
    [0.8, 0.7, 0.6, 0.2],  # two captions of image 0 before its own: rank 2
    [0.4, 0.9, 0.5, 0.5],  # one above, and a tie that counts against it: rank 2
])  # fmt: skip


def test_ranks_of_a_matrix_worked_out_by_hand() -> None:
    to_text, to_image = ranks(SIMILARITY, OWNER)
    assert to_text.tolist() == [0, 2, 2]
    assert to_image.tolist() == [0, 2, 0, 0]


def test_a_tower_that_says_nothing_finds_nothing() -> None:
    to_text, to_image = ranks(torch.zeros(3, 4), OWNER)
    assert to_text.tolist() == [2, 3, 3] and to_image.tolist() == [2, 2, 2, 2]


def test_a_permutation_of_everything_permutes_the_ranks_and_one_of_the_pairing_alone_breaks_them() -> None:
    perfect = torch.eye(6) + 0.01 * torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    pairing, shuffle = torch.arange(6), torch.tensor([3, 5, 4, 1, 0, 2])
    assert ranks(perfect, pairing)[0].tolist() == [0] * 6
    assert ranks(perfect[:, shuffle], shuffle)[0].tolist() == [0] * 6
    assert ranks(perfect[:, shuffle], shuffle)[1].tolist() == [0] * 6
    broken = ranks(perfect, shuffle)  # no caption keeps its image
    assert (broken[0] > 0).all() and (broken[1] > 0).all()


@pytest.mark.parametrize(
    ("similarity", "owner"),
    [(SIMILARITY.clone().fill_(torch.nan), OWNER), (SIMILARITY, torch.tensor([0, 0, 1, 1]))],
)
def test_what_cannot_be_ranked_is_refused(similarity: torch.Tensor, owner: torch.Tensor) -> None:
    with pytest.raises(GauntletError, match="image-text retrieval"):
        ranks(similarity, owner)


def test_the_two_success_rates_differ() -> None:
    """Before: 0, 1, 2 right at k = 5. After: 0 is lost, 3 is found by chance."""
    found = Ranks(clean=(0, 0, 4, 7), attacked=(9, 0, 4, 1))
    assert found.clean_recall(5) == found.attacked_recall(5) == 3 / 4
    assert found.drop(5) == 0 and found.lost(5) == 1 / 3
    assert (found.clean_recall(1), found.attacked_recall(1), found.lost(1)) == (2 / 4, 1 / 4, 1 / 2)
    assert found.attacked_recall(10) == 1 and found.lost(10) == 0


def test_nothing_right_before_leaves_nothing_to_lose() -> None:
    assert Ranks(clean=(3, 2), attacked=(0, 2)).lost(1) is None
    assert Ranks(clean=(3, 2), attacked=(0, 2)).drop(1) == -1 / 2


@pytest.mark.parametrize(("clean", "attacked"), [((0,), (0, 1)), ((), ()), ((0,), (-1,))])
def test_ranks_that_do_not_fit_are_refused(clean: tuple[int, ...], attacked: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError):
        Ranks(clean=clean, attacked=attacked)
