"""A victim repeats an answer only where asking again would give the same bits."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.pgd import PGD, fgsm
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.methods.victims import BoundDefence

KEYS = tuple(range(6))


@pytest.fixture
def victim(tiny_backbone: Backbone, prompts: PromptSet) -> BoundDefence:
    return BoundDefence(method("undefended").build(tiny_backbone), prompts, KEYS)


def test_what_is_recalled_is_what_a_call_gives(victim: BoundDefence, images: Tensor) -> None:
    with torch.no_grad():
        assert victim.recall(images) is None, "nothing was asked yet"
        logits, recalled = victim(images), victim.recall(images.clone())
        assert recalled is not None and torch.equal(recalled, logits)
        assert torch.equal(victim(images), recalled)


CHANGES: dict[str, Callable[[Tensor], object]] = {
    "another pixel": lambda x: x.clone().index_fill(0, torch.tensor([3]), 0.5),
    "another batch": lambda x: x[:3],
    "another order": lambda x: x.flip(0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_images_are_asked_about(change: str, victim: BoundDefence, images: Tensor) -> None:
    with torch.no_grad():
        victim(images)
        assert victim.recall(CHANGES[change](images)) is None  # type: ignore[arg-type]


def test_images_overwritten_since_are_asked_about(victim: BoundDefence, images: Tensor) -> None:
    with torch.no_grad():
        victim(images)
        images.mul_(0.5)
        assert victim.recall(images) is None and victim.recall(images.clone()) is None


@pytest.mark.parametrize("first", [True, False], ids=["a graph before", "a graph now"])
@pytest.mark.parametrize("how", [torch.enable_grad, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_other_kernels_are_asked_again(
    how: Callable[[], object], first: bool, victim: BoundDefence, images: Tensor
) -> None:
    with torch.no_grad():
        with how() if first else nullcontext():  # type: ignore[attr-defined]
            victim(images)
        with nullcontext() if first else how():  # type: ignore[attr-defined]
            assert victim.recall(images) is None


@pytest.mark.parametrize("declared", ["randomised", "keeps_state"])
def test_a_defence_that_may_answer_otherwise_is_asked_again(
    declared: str, victim: BoundDefence, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(victim.defence), "card", victim.defence.card.model_copy(update={declared: True}))
    with torch.no_grad():
        victim(images)
        assert victim.recall(images) is None


@pytest.mark.parametrize(("attack", "steps"), [(fgsm("linf", 0.01), 1), (PGD("linf", 0.01, steps=3), 3)])
def test_the_last_iterate_is_looked_at_once(
    attack: PGD, steps: int, victim: BoundDefence, images: Tensor, prompts: PromptSet
) -> None:
    """One pass each step and one more; the result is that of a victim that repeats nothing."""
    backbone, labels = victim.defence.backbone, torch.arange(6) % 5
    before = backbone.passes.forward
    result = attack(victim, images, labels, KEYS)
    assert backbone.passes.forward - before == 6 * (steps + 1)
    asked_again = attack(Plain(lambda x: victim.defence(x, prompts)), images, labels, KEYS)
    assert torch.equal(result.images, asked_again.images) and torch.equal(result.success, asked_again.success)
