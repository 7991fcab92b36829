"""TAPT's preparation: prompts tuned on adversarial pictures (APT-V, APT-VLI), then statistics of clean pictures.

Sixteen pictures of each class, 100 epochs, batch 32, SGD, PGD-2 with step = eps, as in the paper. The same tuning on
clean pictures gives the prompts for the clean statistics.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.progress import track
from safetensors.torch import save
from torch import Tensor

from vlm_gauntlet.attacks.balls import project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws, key_of
from vlm_gauntlet.fixtures.files import write_atomically
from vlm_gauntlet.fixtures.packing import pack
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.fixtures.visual_prompts import TokenStatistics, visual_prompts

from ..fine_tuning import Recipe, load_training_set
from ..training import Order
from .pretuned import DeepPrompts, Pretuned, untrained

SHOTS = 16
PAPER = Recipe(epochs=100, batch_size=32, learning_rate=0.035, warmup=0)
EMBEDDED = {"miniclip-vit": replace(PAPER, epochs=10, learning_rate=0.1)}
# Half of where this backbone breaks; elsewhere the paper's 1/255.
BUDGET = {"miniclip-vit": 8 / 255}


def few_shots(labels: Tensor, shots: int, seed: int) -> Tensor:
    """Indices of `shots` samples of each class, drawn by the seed; all of a class that has fewer."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(key_of(seed, "shots")))
    drawn = [order[labels[order] == label][:shots] for label in sorted(set(labels.tolist()))]
    return torch.cat(drawn)


def worst_near(logits: Callable[[Tensor], Tensor], images: Tensor, noise: Tensor, labels: Tensor, eps: float) -> Tensor:
    """Images [B, 3, S, S] after PGD-2 with step = eps from images + noise, in the L-inf ball of radius eps."""
    found = project(images + noise, images, norm="linf", eps=eps)
    for _ in range(2):
        found.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits(found), labels), found)
        found = project(found.detach() + eps * gradient.sign(), images, norm="linf", eps=eps)
    return found


def tune(
    backbone: Backbone,
    start: DeepPrompts,
    images: Tensor,
    labels: Tensor,
    prompts: PromptSet,
    recipe: Recipe,
    *,
    eps: float,
    title: str = "",
) -> DeepPrompts:
    """Cross-entropy on adversarial pictures only, eps = 0 for clean ones; nothing but the prompts is trained.

    Args:
        backbone: frozen.
        start: initial prompts [B = 1].
        images, labels: [N, 3, S, S] in [0,1] and [N], all of the training set.
        prompts: the classes.
        recipe: of the optimiser.
        eps: L-inf radius and step of PGD-2 in [0,1] pixels, from a uniform start.
        title: shown with a progress bar; none without.
    """
    learned = start.repeated(1)
    optimiser = torch.optim.SGD(learned.tensors.values(), lr=recipe.learning_rate, momentum=recipe.momentum)
    per_epoch = len(images) // recipe.batch_size
    steps = range(recipe.epochs * per_epoch)

    def logits(pictures: Tensor) -> Tensor:
        return learned.logits(backbone, pictures[None], prompts)[0]

    for step in track(steps, title, disable=not title):
        epoch, batch = divmod(step, per_epoch)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(key_of(recipe.seed, epoch)))
        index = order[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
        pictures, targets = images[index].to(backbone.device), labels[index].to(backbone.device)
        if eps:
            noise = Draws(tuple(key_of(recipe.seed, step, i) for i in index.tolist())).uniform(pictures, -eps, eps)
            pictures = worst_near(logits, pictures, noise, targets, eps)
        for group in optimiser.param_groups:
            group["lr"] = recipe.rate(step, len(steps))
        gradients = torch.autograd.grad(F.cross_entropy(logits(pictures), targets), list(learned.tensors.values()))
        for tokens, gradient in zip(learned.tensors.values(), gradients, strict=True):
            tokens.grad = gradient
        optimiser.step()
    return DeepPrompts(**{name: tokens.detach() for name, tokens in learned.tensors.items()})


def clean_statistics(backbone: Backbone, prompts: DeepPrompts, images: Tensor) -> TokenStatistics:
    """Unbiased statistics [1, layers, tokens, W] of pictures [N, 3, S, S] under some prompts."""
    tokens: list[list[Tensor]] = []
    with torch.no_grad():
        for part in torch.split(images, 256):
            tokens.append([])
            with visual_prompts(backbone, prompts.visual, tokens[-1]):
                backbone.encode_image(part.to(backbone.device))
    return TokenStatistics.of([torch.cat(layer) for layer in zip(*tokens, strict=True)], len(images), unbiased=True)


def train(order: Order) -> Path:
    """Tunes prompts on sixteen pictures of each class, in minutes; does not resume.

    Returns:
        the checkpoint's path.
    """
    variant = order.deviations.get("variant", "V")
    order = replace(order, deviations={} if variant == "V" else {"variant": variant})
    backbone, dataset = order.load()
    recipe = replace(EMBEDDED.get(order.backbone, PAPER), seed=order.seed)
    recipe = replace(recipe, epochs=order.epochs or recipe.epochs)
    pixels, labels = load_training_set(dataset, backbone.image_size)
    chosen = few_shots(labels, SHOTS, order.seed)
    images, labels = pixels[chosen].float() / 255, labels[chosen]
    start = untrained(backbone, variant, order.seed)
    robust, clean = (
        tune(
            backbone, start, images, labels, dataset.prompts, recipe, eps=eps,
            title=f"{variant} at {eps * 255:.0f}/255" if order.progress else "",
        )
        for eps in (BUDGET.get(order.backbone, 1 / 255), 0.0)
    )  # fmt: skip
    statistics = [clean_statistics(backbone, prompts, images) for prompts in (robust, clean)]
    made = Pretuned(robust, *statistics)
    packed = pack({name: tensor.cpu() for name, tensor in made.tensors.items()}, int8=set())
    write_atomically(order.path, save(packed))
    return order.pinned(backbone)
