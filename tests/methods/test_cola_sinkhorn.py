"""Our batched Sinkhorn against POT's, and against what theory promises."""

import ot
import pytest
import torch
from torch import Tensor

from vlm_gauntlet.methods.cola.sinkhorn import transport_plan

EXACT = {"iterations": 10000, "tolerance": 1e-9}


def problem(seed: int, *shape: int, rows: int = 5, columns: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def uniform(*size: int) -> Tensor:
        return torch.rand(*shape, *size, generator=generator, dtype=torch.float64)

    a, b = uniform(rows) + 0.1, uniform(columns) + 0.1
    return uniform(rows, columns), a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)


@pytest.mark.parametrize("eps", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_plan_is_pots(eps: float, seed: int) -> None:
    cost, a, b = problem(seed)
    theirs = ot.sinkhorn(
        a.numpy(), b.numpy(), cost.numpy(), eps, method="sinkhorn_log", numItermax=10000, stopThr=1e-12
    )
    assert torch.allclose(transport_plan(cost, a, b, eps=eps, **EXACT), torch.from_numpy(theirs), atol=1e-7)


def test_little_regularisation_gives_the_exact_transport_cost() -> None:
    cost, a, b = problem(3)
    plan = transport_plan(cost, a, b, eps=2e-3, **EXACT)
    exact = float(ot.emd2(a.numpy(), b.numpy(), cost.numpy()))
    assert exact - 1e-6 <= float((plan * cost).sum()) <= exact + 0.01


def test_marginals_hold_within_the_tolerance() -> None:
    cost, a, b = problem(4, 30)
    plan = transport_plan(cost, a, b, eps=0.05, iterations=100, tolerance=1e-2)
    off = (plan.sum(-1) - a).abs().sum(-1)
    assert torch.allclose(plan.sum(-2), b) and (off < 1e-2).all() and off.max() > 1e-6


def test_a_batch_is_its_problems_one_by_one() -> None:
    """Each stops by itself: easy problems beside hard ones get no more rounds than alone."""
    cost, a, b = problem(5, 6)
    cost = cost * torch.logspace(-2, 1, 6, dtype=cost.dtype)[:, None, None]
    how = {"eps": 0.1, "iterations": 100, "tolerance": 1e-2}
    alone = torch.stack([transport_plan(c, x, y, **how) for c, x, y in zip(cost, a, b, strict=True)])
    assert torch.equal(transport_plan(cost, a, b, **how), alone)
    assert not torch.allclose(alone, transport_plan(cost, a, b, eps=0.1, **EXACT), atol=1e-5)


def test_a_column_without_mass_takes_no_part() -> None:
    cost, a, b = problem(6)
    padded = torch.cat([cost, torch.zeros(5, 2, dtype=cost.dtype)], -1).requires_grad_()
    plan = transport_plan(padded, a, torch.cat([b, torch.zeros(2, dtype=b.dtype)]), eps=0.1, **EXACT)
    assert torch.allclose(plan[:, :8], transport_plan(cost, a, b, eps=0.1, **EXACT)) and not plan[:, 8:].any()
    (gradient,) = torch.autograd.grad((plan * padded).sum(), padded)
    assert torch.isfinite(gradient).all() and not gradient[:, 8:].any()


def test_the_envelope_theorem() -> None:
    """The gradient of the entropic cost with respect to the costs is the plan, at convergence."""
    cost, a, b = problem(7)
    cost.requires_grad_()
    plan = transport_plan(cost, a, b, eps=0.1, **EXACT)
    entropic = (plan * cost).sum() + 0.1 * (plan * (plan / (a[:, None] * b)).log()).sum()
    (gradient,) = torch.autograd.grad(entropic, cost)
    assert torch.allclose(gradient, plan, atol=1e-7)
