"""BPDA: the forward value of a defence with the gradient of something differentiable (Athalye et al. 2018)."""

from collections.abc import Callable

import torch
from torch import Tensor


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """Has `value` forwards and the gradient of `surrogate` backwards. Shapes must agree."""
    return surrogate + (value.detach() - surrogate.detach())


def identity_backward(transform: Callable[[Tensor], Tensor], inputs: Tensor) -> Tensor:
    """Applies a transform whose Jacobian the attacker takes for the identity; no graph is built inside it."""
    with torch.no_grad():
        value = transform(inputs.detach())
    return straight_through(value, inputs)
