"""ET3: energy by hand, a step by hand on a linear model, ball and box, scaling with the side, what the switches do."""

import math

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.attacks.balls import lp_norm
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.et3.method import ET3


class Linear(Backbone):
    """Logits (brightness of the red channel, 0): the energy's gradient is the same everywhere, but for a factor."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        red = images[:, 0].flatten(1).sum(1)
        return torch.stack([red, torch.zeros_like(red)], dim=1)


def test_energy_by_hand(prompts: PromptSet) -> None:
    """E = -log(e^r + e^0)."""
    picture = torch.full((1, 3, 2, 2), 0.5)
    assert ET3(Linear()).energy(picture, prompts).item() == pytest.approx(-math.log(math.exp(2.0) + 1))


def test_one_step_by_hand(prompts: PromptSet) -> None:
    """The gradient is -c on red: normalised, each of the 4 red pixels rises by alpha * (2 / 224) / 2."""
    picture = torch.full((1, 3, 2, 2), 0.5)
    moved = ET3(Linear(), step_size=2.5, steps=1, radius=100.0).moved(picture, prompts)
    rise = 2.5 * (2 / 224) / 2
    assert torch.allclose(moved[0, 0], torch.full((2, 2), 0.5 + rise), atol=1e-7)
    assert torch.equal(moved[0, 1:], picture[0, 1:])


@pytest.mark.parametrize(("ball", "radius"), [("l2", "5"), ("l2", "4"), ("linf", "5"), ("linf", "4")])
def test_ball_and_box(ball: str, radius: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """A long step ends on the sphere of the switch's radius, in L2 that of the picture's side."""
    edges = torch.cat([images[:4], torch.zeros_like(images[:1]), torch.ones_like(images[:1])])
    defence = ET3(tiny_backbone, {"ball": ball, "radius": radius}, step_size=100.0)
    moved = defence.moved(edges, prompts)
    limit = float(radius) * 16 / 224 if ball == "l2" else float(radius) / 255
    length = lp_norm(moved - edges, ball)
    assert (length <= limit + 1e-6).all() and length.max() > 0.8 * limit
    assert moved.min() >= 0 and moved.max() <= 1


def test_the_energy_falls(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = ET3(tiny_backbone, step_size=0.5)
    before, after = (defence.energy(x, prompts) for x in (images, defence.moved(images, prompts)))
    assert (after < before).all()


def test_no_steps_change_nothing(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    assert torch.equal(ET3(tiny_backbone, steps=0).moved(images, prompts), images)


def test_a_picture_alone_moves_as_in_a_batch(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence = ET3(tiny_backbone)
    alone = torch.cat([defence.moved(x[None], prompts) for x in images])
    assert torch.allclose(defence.moved(images, prompts), alone, atol=1e-5)


def test_permuted_classes_move_it_alike(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    """The energy sums over the classes."""
    order = [3, 0, 4, 2, 1]
    turned = PromptSet(tuple(prompts.class_names[i] for i in order), tuple(prompts.prompts[i] for i in order))
    defence = ET3(tiny_backbone)
    assert torch.allclose(defence.moved(images, prompts), defence.moved(images, turned), atol=1e-5)


def test_the_surrogate_is_the_gradient_at_the_moved_image(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    defence, inputs = ET3(tiny_backbone), images.clone().requires_grad_()
    (through,) = torch.autograd.grad(defence(inputs, prompts, gradient="straight-through")[:, 0].sum(), inputs)
    there = defence.moved(images, prompts).requires_grad_()
    (expected,) = torch.autograd.grad(tiny_backbone(there, prompts)[:, 0].sum(), there)
    assert torch.allclose(through, expected, atol=1e-4)


def test_unrolled_is_another_gradient(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    grads = []
    for route in ("straight-through", "unrolled"):
        inputs = images.clone().requires_grad_()
        logits = ET3(tiny_backbone)(inputs, prompts, gradient=route)  # type: ignore[arg-type]
        grads.append(torch.autograd.grad(logits[:, 0].sum(), inputs)[0])
    assert grads[1].norm() > 0 and not torch.allclose(*grads, atol=1e-4)
