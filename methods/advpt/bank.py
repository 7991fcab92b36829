"""The bank: one attacked embedding of each picture, made once, without prompt and label."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vlm_gauntlet.attacks.balls import project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.training.recipe import Budget

from .losses import embedding_divergence

AT_ONCE = 128


def attacked_images(backbone: Backbone, images: Tensor, keys: tuple[int, ...], budget: Budget) -> Tensor:
    """Images [B, 3, H, W] that the image tower embeds as far as possible from the clean ones; eps = 0: the clean ones.

    Sign steps up the divergence, from a start that is uniform on [0, eps]: on the positive side only, as in the code.
    """
    eps, step_size = float(budget.eps), float(budget.step_size)
    if eps == 0:
        return images
    with torch.no_grad():
        clean = backbone.encode_image(images)
    found = project(images + Draws(keys).uniform(images, 0, eps), images, norm="linf", eps=eps)
    for _ in range(budget.steps):
        inputs = found.detach().requires_grad_()
        divergence = embedding_divergence(clean, backbone.encode_image(inputs)).sum()
        (gradient,) = torch.autograd.grad(divergence, inputs)
        found = project(inputs.detach() + step_size * gradient.sign(), images, norm="linf", eps=eps)
    return found.detach()


def bank(backbone: Backbone, images: Tensor, budget: Budget, seed: int) -> Tensor:
    """Pictures [N, 3, S, S] as bytes -> embeddings [N, D] of their attacked versions."""

    def parts() -> Iterator[Tensor]:
        for first in range(0, len(images), AT_ONCE):
            part = (images[first : first + AT_ONCE].float() / 255).to(backbone.device)
            keys = tuple(key_of(seed, "bank", first + i) for i in range(len(part)))
            found = attacked_images(backbone, part, keys, budget)
            with torch.no_grad():
                yield backbone.encode_image(found)

    return torch.cat(list(parts()))
