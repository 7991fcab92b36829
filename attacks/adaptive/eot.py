"""Expectation over transformation: the gradient averaged over fresh draws of a randomised victim."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..base import Victim


def input_gradient(
    victim: Victim, images: Tensor, labels: Tensor, loss: Callable[[Tensor, Tensor], Tensor], *, draws: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the summed loss with respect to the images alone, averaged over `draws` calls of the victim.

    Returns:
        gradient [B, ...], mean loss [B], wrong [B] bool: misclassified in every draw.
        A victim whose logits do not depend on the images has gradient zero.
    """
    gradient, total = torch.zeros_like(images), images.new_zeros(len(images))
    wrong = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for _ in range(draws):
        with torch.enable_grad():
            inputs = images.detach().requires_grad_()
            logits = victim(inputs).float()
            values = loss(logits, labels)
            (part,) = torch.autograd.grad(values.sum(), inputs, allow_unused=True) if values.requires_grad else (None,)
        gradient += torch.zeros_like(images) if part is None else part.detach()
        total += values.detach()
        wrong &= logits.detach().argmax(1) != labels
    return gradient / draws, total / draws, wrong
