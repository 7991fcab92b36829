"""FMN: minimal distances that are known, and what becomes of them at a radius. foolbox's own images: test_peers.py."""

import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks.balls import lp_norm
from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.fmn import FMN

from ..rounding import between
from .conftest import classifier

KEYS = tuple(range(40))
Toy = tuple[nn.Module, Tensor, Tensor]


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_the_radius_is_the_distance_to_the_boundary_of_a_curved_linear_model(norm: str, dual: int) -> None:
    """Of a plane; the logits are its cube, so that the first estimate misses and the search must go on."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(48, generator=generator)
    images = 0.45 + 0.1 * torch.rand(12, 3, 4, 4, generator=generator)
    plane = classifier(weight, bias=-float(weight.sum()) / 2)
    labels = plane(images).argmax(1)
    optimum = (plane(images)[:, 1] - plane(images)[:, 0]).abs() / weight.norm(p=dual)
    eps = between(optimum)
    assert not ((optimum < eps) & (1.02 * optimum > eps)).any(), "nobody is broken by luck"
    result = FMN(norm, eps)(Plain(lambda x: plane(x) ** 3 + plane(x)), images, labels, KEYS[:12])
    found = result.telemetry["radius"].double()
    assert (found >= optimum - 1e-6).all() and (found <= 1.02 * optimum + 1e-6).all()
    assert torch.equal(result.success, optimum <= eps) and 0 < result.success.sum() < 12


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_success_is_a_radius_within_eps(toy: Toy, norm: str) -> None:
    """Of a model in float32, as the search reads it: at the boundary a tie would be broken otherwise in float64."""
    model, images, labels = toy
    eps = {"linf": 0.06, "l2": 0.4}[norm]
    result = FMN(norm, eps)(Plain(lambda x: model(x).float()), images, labels, KEYS)
    near = result.telemetry["radius"] <= eps
    assert 5 < near.sum() < 40 and result.success[near].all() and not result.repaired.any()
    assert result.success.sum() <= near.sum() + 2, "a projected image breaks by luck alone"
    assert (result.telemetry["radius"] == 0).sum() == (model(images).argmax(1) != labels).sum()


def test_the_radius_does_not_depend_on_eps(toy: Toy) -> None:
    model, images, labels = toy
    one, other = (FMN("linf", eps, 20)(Plain(model), images, labels, KEYS).telemetry["radius"] for eps in (0.02, 0.3))
    assert torch.equal(one, other) and one.isfinite().all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_sample_has_a_ball_of_its_own_and_what_lies_inside_stays(norm: str) -> None:
    clean = torch.full((2, 3, 4, 4), 0.5)
    moved = clean + lp_unit(norm) * torch.tensor([0.3, 0.3]).view(2, 1, 1, 1)
    made = FMN(norm, 0.1).within(moved, clean, torch.tensor([0.2, 0.4]))
    assert lp_norm(made - clean, norm).tolist() == pytest.approx([0.2, 0.3])
    assert torch.allclose(made[1], moved[1])


def lp_unit(norm: str) -> Tensor:
    """A perturbation [1, 3, 4, 4] of length 1."""
    ones = torch.ones(1, 3, 4, 4)
    return ones / lp_norm(ones, norm).view(1, 1, 1, 1)


def test_what_was_never_misclassified_returns_at_the_whole_of_eps() -> None:
    """One short step towards the boundary finds nothing; its direction leads across within eps."""
    model, image = classifier(torch.ones(48), bias=-30.0), torch.full((1, 3, 4, 4), 0.7)
    result = FMN("linf", 0.2, steps=1, step_size=0.01)(Plain(model), image, torch.tensor([1]), (0,))
    assert result.telemetry["radius"].isinf().all() and result.success.all()
    assert torch.allclose(result.images, image - 0.2)


def test_batch_split_and_order_do_not_matter(toy: Toy) -> None:
    model, images, labels = toy
    attack = FMN("linf", 0.08, steps=10)
    whole = attack(Plain(model), images, labels, KEYS).images
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for part in order.split([1, 7, 32]):
        made = attack(Plain(model), images[part], labels[part], KEYS[: len(part)]).images
        assert torch.allclose(made, whole[part], atol=1e-6)


def test_without_a_gradient_an_image_stays_and_it_is_told(toy: Toy) -> None:
    model, images, labels = toy
    cut = FMN("linf", 0.1, steps=3)(Plain(lambda x: model(x.detach())), images, labels, KEYS)
    assert torch.equal(cut.images, images) and (cut.telemetry["gradient_norm"] == 0).all()

    def nan(pictures: Tensor) -> Tensor:
        logits: Tensor = model(pictures)
        return logits + 0 * (pictures - pictures).flatten(1).sum(1, keepdim=True).sqrt()

    lost = FMN("linf", 0.1, steps=3)(Plain(nan), images, labels, KEYS)
    assert torch.equal(lost.images, images) and (lost.telemetry["nan_gradient"] == 1).all()
