"""The one inner maximisation: PGD in the L-inf ball from a uniform start, as Madry et al. (2018) train with.

delta_0 ~ U(-eps, eps), delta_{t+1} = clip(delta_t + step_size sign(grad loss)), images kept in [0,1].
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vlm_gauntlet.attacks.balls import project
from vlm_gauntlet.fixtures.draws import Draws

from .recipe import Budget


def worst_images(
    loss: Callable[[Tensor], Tensor],
    images: Tensor,
    keys: tuple[int, ...],
    budget: Budget,
    *,
    accumulate: float | None = None,
) -> Tensor:
    """Adversarial images [B, 3, H, W], a constant to autograd; with eps = 0 the images themselves.

    Only images get gradients: the parameters' `.grad` stays as it was.

    Args:
        loss: images -> scalar, maximised.
        images: clean, in [0,1].
        keys: one a sample; the start depends on them alone.
        budget: eps, steps, step size.
        accumulate: lets the attack's `backward()` add to the parameters' gradients too, as TeCoA's code would without
            its loss scaler: the share of the batch that these images are. None: nothing is added.
    """
    eps, step_size = float(budget.eps), float(budget.step_size)
    if eps == 0:
        return images
    adversarial = project(images + Draws(keys).uniform(images, -eps, eps), images, norm="linf", eps=eps)
    for _ in range(budget.steps):
        inputs = adversarial.detach().requires_grad_()
        if accumulate is None:
            (gradient,) = torch.autograd.grad(loss(inputs), inputs)
        else:
            (accumulate * loss(inputs)).backward()  # type: ignore[no-untyped-call]
            assert inputs.grad is not None
            gradient = inputs.grad
        adversarial = project(inputs.detach() + step_size * gradient.sign(), images, norm="linf", eps=eps)
    return adversarial.detach()
