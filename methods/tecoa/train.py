"""TeCoA's training (Mao et al. 2023, section 3.2): PGD on the text-guided loss, then a step on the images found.

The loss called contrastive in the paper is cross-entropy over all training-class texts:
L = mean_i CE(scale * unit(v(x_i + delta_i)) T^t, y_i).
"""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.attacks.balls import project
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet

from ..checkpoints import save_checkpoint
from ..fine_tuning import Objective, Recipe, fine_tune
from ..training import Order

# The README run for CLIP ViT-B/32 on ImageNet; the learning rate is the one that its reproducers use (the parser's
# default of 1e-7 is a documented trap).
REPRODUCTION = Recipe(epochs=10, batch_size=256, learning_rate=1e-5, warmup=1000)
# The same recipe for towers of 1-4 M parameters and some thousand pictures: fewer steps of larger length.
EMBEDDED = {
    "miniclip-cnn": Recipe(epochs=3, batch_size=50, learning_rate=2e-3, warmup=30),
    "miniclip-vit": Recipe(epochs=10, batch_size=128, learning_rate=1e-2, warmup=50),
}
BUDGET = {"miniclip-vit": 16 / 255}  # elsewhere the paper's 1/255


def text_guided_adversarial_loss(*, eps: float, steps: int, step_size: float, attack_gradients: str) -> Objective:
    """The objective of TeCoA.

    Args:
        eps, step_size: L-inf radius and step in [0,1] pixels; steps: of PGD, from a uniform start.
        attack_gradients: `isolated` (gradient with respect to delta alone) or `accumulated`: as in the official code,
            whose `backward()` inside the attack also adds to the parameters' gradients of the training step.
    """

    def objective(
        student: Backbone, images: Tensor, labels: Tensor, prompts: PromptSet, keys: tuple[int, ...]
    ) -> Tensor:
        noise = Draws(keys).uniform(images, -eps, eps)
        adversarial = project(images + noise, images, norm="linf", eps=eps)
        for _ in range(steps):
            inputs = adversarial.requires_grad_()
            inner = F.cross_entropy(student(inputs, prompts), labels)
            if attack_gradients == "accumulated":
                inner.backward()  # type: ignore[no-untyped-call]
                gradient = inputs.grad
                assert gradient is not None
            else:
                (gradient,) = torch.autograd.grad(inner, inputs)
            adversarial = project(inputs.detach() + step_size * gradient.sign(), images, norm="linf", eps=eps)
        return F.cross_entropy(student(adversarial, prompts), labels)

    return objective


def train(order: Order) -> Path:
    """Fine-tunes the image tower; a killed run resumes.

    Returns:
        the checkpoint's path.
    """
    chosen = order.deviations
    base, data = order.load()
    recipe = replace(EMBEDDED.get(order.backbone, REPRODUCTION), seed=order.seed)
    if order.epochs is not None:
        recipe = replace(recipe, epochs=order.epochs)
    if chosen.get("learning_rate") == "parser-default":
        recipe = replace(recipe, learning_rate=1e-7)
    budget = BUDGET.get(order.backbone, 1 / 255)
    eps, steps, step_size = budget, 2, budget
    if chosen.get("training_budget") == "parser-default":  # eps = 2/255, five steps of 1/255
        eps, steps, step_size = 2 * eps, 5, eps
    objective = text_guided_adversarial_loss(
        eps=eps, steps=steps, step_size=step_size, attack_gradients=chosen.get("attack_gradients", "isolated")
    )
    tower = fine_tune(base, data, objective, recipe, order.path, progress=order.progress)
    save_checkpoint(order.path, base, tower, order.command)
    return order.pinned(base)
