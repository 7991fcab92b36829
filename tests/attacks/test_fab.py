"""FAB-T: minimal distances that are known, the official code's own results, and no trace in the process."""

import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks.autoattack import official
from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.fab import FABT

from ..rounding import between
from .conftest import classifier

KEYS = tuple(range(40))
Toy = tuple[nn.Module, Tensor, Tensor]


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_the_radius_is_the_distance_to_the_boundary_of_a_linear_model(norm: str, dual: int) -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(48, generator=generator)
    images = 0.45 + 0.1 * torch.rand(12, 3, 4, 4, generator=generator)
    model = classifier(weight, bias=-float(weight.sum()) / 2)
    labels = model(images).argmax(1)
    optimum = (model(images)[:, 1] - model(images)[:, 0]).abs() / weight.norm(p=dual)
    eps = between(optimum)
    assert not ((optimum < eps) & (1.06 * optimum > eps)).any(), "nobody is broken by luck"
    result = FABT(norm, eps, steps=20)(Plain(model), images, labels, KEYS[:12])
    found = result.telemetry["radius"].double()
    assert (found >= optimum - 1e-6).all() and (found <= 1.06 * optimum + 1e-6).all()
    assert torch.equal(result.success, optimum <= eps) and 0 < result.success.sum() < 12
    assert torch.equal(result.images[~result.success], images[~result.success])
    assert "fab-t: 1 targets instead of 9, there are 2 classes" in result.notes


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.06), ("l2", 0.4)])
def test_the_same_images_as_the_official_loop(toy: Toy, norm: str, eps: float) -> None:
    """It is deterministic without restarts, so that the official `perturb` finds the very same."""
    model, images, labels = toy
    name = {"linf": "Linf", "l2": "L2"}[norm]
    theirs = official("fab_pt").FABAttack_PT(
        lambda x: model(x).float(), norm=name, n_iter=15, eps=eps, targeted=True, n_target_classes=4, device="cpu"
    )
    with torch.random.fork_rng():
        expected = theirs.perturb(images, labels)
    model.zero_grad(set_to_none=True)
    found = FABT(norm, eps, steps=15)(Plain(model), images, labels, KEYS).images
    assert 5 < (expected != images).flatten(1).any(1).sum() < 40
    assert torch.allclose(found, expected, atol=1e-6)


def test_batch_split_and_order_do_not_matter(toy: Toy) -> None:
    model, images, labels = toy
    attack = FABT("linf", 0.08, steps=10)
    whole = attack(Plain(model), images, labels, KEYS).images
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for part in order.split([1, 7, 32]):
        made = attack(Plain(model), images[part], labels[part], KEYS[: len(part)]).images
        assert torch.allclose(made, whole[part], atol=1e-6)


def test_it_leaves_no_trace(toy: Toy) -> None:
    model, images, labels = toy
    state = torch.random.get_rng_state()
    FABT("linf", 0.05, steps=3)(Plain(model), images, labels, KEYS)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(p.grad is None for p in model.parameters())


def test_misclassified_images_return_as_they_are(toy: Toy) -> None:
    model, images, _ = toy
    labels = (model(images).argmax(1) + 1) % 5
    assert torch.equal(FABT("linf", 0.1, steps=3)(Plain(model), images, labels, KEYS).images, images)


def test_without_a_gradient_an_image_stays_and_it_is_told(toy: Toy) -> None:
    model, images, labels = toy
    cut = FABT("linf", 0.1, steps=3)(Plain(lambda x: model(x.detach())), images, labels, KEYS)
    assert torch.equal(cut.images, images) and (cut.telemetry["gradient_norm"] == 0).all()

    def nan(pictures: Tensor) -> Tensor:
        logits: Tensor = model(pictures)
        return logits + 0 * (pictures - pictures).flatten(1).sum(1, keepdim=True).sqrt()

    lost = FABT("linf", 0.1, steps=3)(Plain(nan), images, labels, KEYS)
    assert torch.equal(lost.images, images) and (lost.telemetry["nan_gradient"] == 1).all()
