"""Entropic optimal transport in the log domain, batched: each problem stops on its own (Cuturi, NIPS 2013)."""

import torch
from torch import Tensor


def transport_plan(
    cost: Tensor, rows: Tensor, columns: Tensor, *, eps: float, iterations: int, tolerance: float
) -> Tensor:
    """The plan T that minimises <T, cost> + eps sum T log T under its two marginals; differentiable.

    Args:
        cost: [..., N, M].
        rows: marginal [..., N], positive, sums to one.
        columns: marginal [..., M], sums to one; a column of mass zero takes no part.
        eps: regularisation, in units of the cost.
        iterations: pairs of updates at most.
        tolerance: a problem stops when the rows of its plan miss their marginal by less, in total mass.

    Returns:
        [..., N, M]. Its columns are exact, its rows within the tolerance.
    """
    log_rows, log_columns, kernel = rows.log(), columns.log(), -cost / eps
    f = torch.zeros_like(kernel[..., 0])
    g = log_columns - kernel.logsumexp(-2)
    for _ in range(iterations):
        next_f = log_rows - (kernel + g[..., None, :]).logsumexp(-1)
        # The rows of the present plan sum to rows * exp(f - next_f): the error costs nothing.
        with torch.no_grad():
            error = (rows * (f - next_f).expm1().abs()).sum(-1, keepdim=True)
        moving = error >= tolerance
        if not moving.any():
            break
        next_g = log_columns - (kernel + next_f[..., :, None]).logsumexp(-2)
        # A finished problem stands still, so that its plan does not depend on its neighbours in the batch.
        f, g = torch.where(moving, next_f, f), torch.where(moving, next_g, g)
    return (kernel + f[..., :, None] + g[..., None, :]).exp()
