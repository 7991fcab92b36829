"""Square Attack: a random search that keeps its budget, needs no gradient, and treats every sample alone."""

import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks import autoattack
from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.square import HALVINGS, Square
from vlm_gauntlet.fixtures.draws import Draws

KEYS = tuple(range(40))
Toy = tuple[nn.Module, Tensor, Tensor]


def test_it_breaks_more_with_more_queries_and_keeps_its_budget(toy: Toy) -> None:
    model, images, labels = toy
    right = int((model(images).argmax(1) == labels).sum())
    few, many = (Square("linf", 0.1, queries=q)(Plain(model), images, labels, KEYS) for q in (3, 300))
    assert int((~many.success).sum()) < int((~few.success).sum()) <= right
    assert not many.repaired.any()
    assert (many.images - images).abs().max() <= 0.1 + 1e-6


@pytest.mark.parametrize(("places", "reached"), [("all", 6), ("as_published", 5)])
def test_as_published_no_square_touches_the_last_row_or_column(places: str, reached: int) -> None:
    """6 pixels and a side of 2 (p = 4/36, before the first halving): tops 0..4, the official draw gives 0..3."""
    attack = Square("linf", 0.1, queries=10_000, p=4 / 36, places=places)
    clean = torch.full((400, 3, 6, 6), 0.5)
    proposed = attack._propose(clean, clean, Draws(tuple(range(400)), 1), 1)
    touched = (proposed != clean).all(1)
    assert touched.sum((1, 2)).tolist() == [4] * 400
    for axis in (1, 2):
        assert (touched.any(axis).sum(0) > 0).tolist() == [i < reached for i in range(6)]
    everywhere = Square("linf", 0.1, queries=10_000, p=1.0, places=places)
    assert (everywhere._propose(clean, clean, Draws(tuple(range(400)), 1), 1) != clean).all(), "one place is left"


@pytest.mark.parametrize("places", ["all", "as_published"])
def test_as_strong_as_the_official_one(places: str, toy: Toy) -> None:
    square = pytest.importorskip(autoattack.library.__name__.rpartition(".")[0] + ".square")
    model, images, labels = toy
    official = square.SquareAttack(
        lambda x: model(x).float(),
        norm="Linf",
        n_queries=300,
        eps=0.1,
        seed=0,
        device=torch.device("cpu"),
        resc_schedule=True,
    )
    if places == "all":  # the official draw of a place without its last row and column: half the picture of 4 x 4
        official.random_int = lambda low=0, high=1, shape=(1,): torch.randint(int(low), int(high) + 1, tuple(shape))
    with torch.no_grad(), torch.random.fork_rng():
        theirs = int((model(official.perturb(images, labels)).argmax(1) == labels).sum())
    ours = Square("linf", 0.1, queries=300, places=places)(Plain(model), images, labels, KEYS)
    assert abs(int((~ours.success).sum()) - theirs) <= 4


def test_a_masked_gradient_does_not_stop_it(toy: Toy) -> None:
    model, images, labels = toy

    def masked(pictures: Tensor) -> Tensor:
        logits: Tensor = model(pictures.detach())
        return logits

    open_, closed = (Square("linf", 0.1, queries=100)(Plain(m), images, labels, KEYS) for m in (model, masked))
    assert torch.equal(open_.images, closed.images)


def test_batch_split_and_order_do_not_matter(toy: Toy) -> None:
    model, images, labels = toy
    attack = Square("linf", 0.08, queries=60)
    whole = attack(Plain(model), images, labels, KEYS).images
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for part in order.split([1, 7, 32]):
        keys = tuple(KEYS[i] for i in part.tolist())
        assert torch.equal(attack(Plain(model), images[part], labels[part], keys).images, whole[part])


def test_the_squares_shrink_on_schedule() -> None:
    """Side sqrt(p h w), p = 0.8 at first, half the area after each point of the schedule."""
    attack = Square("linf", 0.1, queries=10_000)
    assert attack._side(1, 224, 224) == round((0.8 * 224 * 224) ** 0.5)
    sides = [attack._side(point + 1, 224, 224) for point in HALVINGS]
    assert sides == [round((0.8 / 2**k * 224 * 224) ** 0.5) for k in range(1, 10)]
    assert Square("linf", 0.1, queries=10)._side(9, 4, 4) >= 1


def test_no_budget_changes_nothing(toy: Toy) -> None:
    model, images, labels = toy
    assert torch.equal(Square("linf", 0.0, queries=5)(Plain(model), images, labels, KEYS).images, images)


def test_autoattack_runs_only_the_first_part_of_the_schedule() -> None:
    first = Square("linf", 0.1, queries=5000, stretched=False)
    assert first._side(4999, 224, 224) == Square("linf", 0.1, queries=10_000)._side(4999, 224, 224)
    assert first._side(4999, 224, 224) > Square("linf", 0.1, queries=5000)._side(4999, 224, 224)
