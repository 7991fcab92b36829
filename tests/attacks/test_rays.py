"""RayS: finds the nearest boundary of a linear model from classes alone, one query a sample and step."""

import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.rays import RayS, RaySearch

from .conftest import classifier

KEYS = tuple(range(40))
Toy = tuple[nn.Module, Tensor, Tensor]


def linear() -> tuple[Plain, Tensor, Tensor, Tensor]:
    """A linear model, images, labels and each image's L-inf distance to the boundary, margin / |w|_1."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(48, generator=generator)
    images = 0.45 + 0.1 * torch.rand(12, 3, 4, 4, generator=generator)
    model = classifier(weight, bias=-float(weight.sum()) / 2)
    logits = model(images)
    return Plain(model), images, logits.argmax(1), (logits[:, 1] - logits[:, 0]).abs() / weight.abs().sum()


def test_the_radius_comes_near_the_known_optimum_and_not_below() -> None:
    model, images, labels, optimum = linear()
    result = RayS("linf", 1e-6, queries=1500, tolerance=1e-7)(model, images, labels, KEYS[:12])
    found = result.telemetry["radius"].double()
    assert not result.success.any()
    assert (found >= optimum - 1e-5).all()
    assert (found <= 1.03 * optimum + 1e-5).all()


def test_success_exactly_when_the_radius_is_inside() -> None:
    model, images, labels, optimum = linear()
    for image, label, radius in zip(images[:4], labels, optimum.tolist(), strict=False):
        for factor, broken in ((0.98, False), (1.15, True)):
            result = RayS("linf", factor * radius)(model, image[None], label[None], KEYS[:1])
            assert bool(result.success) is broken is (float(result.telemetry["radius"]) <= factor * radius)
            assert not result.repaired.any()
            assert (result.images - image).abs().max() <= factor * radius + 1e-6


def test_it_reads_the_class_and_nothing_else(toy: Toy) -> None:
    model, images, labels = toy

    def hard(pictures: Tensor) -> Tensor:
        return nn.functional.one_hot(model(pictures.detach()).argmax(1), 5).float()

    soft, label_only = (RayS("linf", 0.1, queries=100)(Plain(m), images, labels, KEYS) for m in (model, hard))
    assert torch.equal(soft.images, label_only.images)
    assert int(label_only.success.sum()) > int((model(images).argmax(1) != labels).sum())


def test_more_queries_break_more_and_the_budget_is_kept(toy: Toy) -> None:
    model, images, labels = toy
    few, many = (RayS("linf", 0.1, queries=q)(Plain(model), images, labels, KEYS) for q in (5, 300))
    assert int(few.success.sum()) < int(many.success.sum())
    calls: list[int] = []

    def counting(pictures: Tensor) -> Tensor:
        calls.append(len(pictures))
        logits: Tensor = model(pictures)
        return logits

    RayS("linf", 1e-6, queries=7)(Plain(counting), images, labels, KEYS)
    assert len(calls) == 1 + 7 + 1  # the clean class, the queries, and the base class's own check


def test_batch_split_and_order_do_not_matter(toy: Toy) -> None:
    model, images, labels = toy
    attack = RayS("linf", 0.08, queries=80)
    whole = attack(Plain(model), images, labels, KEYS).images
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for part in order.split([1, 7, 32]):
        assert torch.equal(attack(Plain(model), images[part], labels[part], KEYS[: len(part)]).images, whole[part])


def test_blocks_halve_until_each_is_a_pixel() -> None:
    """With answers that never help, the attempts are the flips of all blocks of all levels, in order."""
    rays = RaySearch(torch.full((1, 3, 1, 2), 0.5), tolerance=1e-3)
    seen = []
    for _ in range(1 + 2 + 3 + 6):
        seen.append("".join("-" if s < 0 else "+" for s in rays.attempt[0]))
        rays.learn(torch.tensor([False]))
    assert seen[:6] == ["------", "---+++", "+++---", "--++++", "++--++", "++++--"]
    assert seen[6:] == ["+" * i + "-" + "+" * (5 - i) for i in range(6)]


def test_misclassified_images_return_as_they_are(toy: Toy) -> None:
    model, images, _ = toy
    labels = (model(images).argmax(1) + 1) % 5
    assert torch.equal(RayS("linf", 0.1, queries=5)(Plain(model), images, labels, KEYS).images, images)


@pytest.mark.parametrize("queries", [0, 20])
def test_no_budget_changes_nothing(toy: Toy, queries: int) -> None:
    model, images, labels = toy
    assert torch.equal(RayS("linf", 0.0, queries=queries)(Plain(model), images, labels, KEYS).images, images)
