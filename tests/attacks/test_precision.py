"""The artefact of half precision with a mean loss: gradients vanish, robustness grows with the batch."""

import copy

import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks.base import AttackResult, Plain
from vlm_gauntlet.attacks.indicators import zero_gradient
from vlm_gauntlet.attacks.pgd import PGD

COPIES = (1, 8, 32)
Toy = tuple[nn.Module, Tensor, Tensor]


def attacked(toy: Toy, reduction: str, *, half: bool, copies: int) -> AttackResult:
    """PGD-10 on a confident float32 model, in a batch that holds the 40 samples so many times."""
    model, images, labels = toy
    network = copy.deepcopy(model[1]).float()
    attack = PGD("linf", 0.15, reduction=reduction)
    with torch.autocast("cpu", torch.float16, enabled=half):
        return attack(
            Plain(lambda x: 2 * network(x)),
            images.repeat(copies, 1, 1, 1), labels.repeat(copies), tuple(range(40)) * copies,
        )  # fmt: skip


def standing(result: AttackResult) -> int:
    return int((~result.success[:40]).sum())


def test_under_autocast_a_mean_loss_makes_an_undefended_model_robust(toy: Toy) -> None:
    results = [attacked(toy, "mean", half=True, copies=c) for c in COPIES]
    robust = [standing(r) for r in results]
    assert robust[0] < robust[1] < robust[2]
    dead = [int((r.telemetry["gradient_norm"][:40] == 0).sum()) for r in results]
    assert dead[0] < dead[1] < dead[2]
    assert zero_gradient(results[-1].telemetry["gradient_norm"]).fired


@pytest.mark.parametrize(("reduction", "half"), [("sum", False), ("mean", False), ("sum", True)])
def test_full_precision_or_a_summed_loss_does_not_see_the_batch(toy: Toy, reduction: str, half: bool) -> None:
    results = [attacked(toy, reduction, half=half, copies=c) for c in COPIES]
    assert len({standing(r) for r in results}) == 1
    assert standing(results[0]) < standing(attacked(toy, "mean", half=True, copies=1))
    assert not zero_gradient(results[-1].telemetry["gradient_norm"]).fired
