"""AutoAttack's cascades: who runs, on whom, with few classes, and the same bits however a batch is cut."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.attacks.autoattack import APGDCE
from vlm_gauntlet.attacks.base import Attack, Plain, Run
from vlm_gauntlet.attacks.ensembles import Ensemble, Fare, Rand, Standard, Tecoa

KEYS = tuple(range(40))
Toy = tuple[nn.Module, Tensor, Tensor]


def run(ensemble: Ensemble, model, images: Tensor, labels: Tensor, keys: tuple[int, ...] = KEYS):
    return ensemble(Plain(model), images, labels, keys[: len(images)])


@pytest.mark.parametrize(
    ("recipe", "parts"),
    [
        (Standard, {4: "apgd-ce apgd-t fab-t square", 3: "apgd-ce apgd-dlr fab-t square", 2: "apgd-ce fab-t square"}),
        (Rand, {4: "apgd-ce apgd-dlr", 3: "apgd-ce apgd-dlr", 2: "apgd-ce"}),
        (Fare, {4: "apgd-ce apgd-t", 3: "apgd-ce apgd-t", 2: "apgd-ce"}),
        (Tecoa, {4: "apgd-ce apgd-dlr", 3: "apgd-ce apgd-dlr", 2: "apgd-ce"}),
    ],
)
def test_the_parts_follow_the_number_of_classes_and_it_is_said(recipe, parts, toy: Toy) -> None:
    model, images, labels = toy
    for classes, names in parts.items():
        few = labels < classes
        ensemble = recipe("linf", 0.3, steps=3)
        assert list(ensemble.parts(classes)) == names.split()
        result = run(ensemble, lambda x, k=classes: model(x)[:, :k], images[few], labels[few])
        assert result.success.any()
        assert f"with {classes} classes: {', '.join(names.split())}" in result.notes


def test_budgets_are_the_official_ones() -> None:
    full = Standard("linf", 0.1).parts(10)
    assert (full["apgd-ce"].steps, full["apgd-ce"].restarts, full["apgd-t"].n_targets) == (100, 1, 9)
    assert (full["fab-t"].steps, full["fab-t"].n_targets) == (100, 9)
    assert (full["square"].queries, full["square"].stretched) == (5000, False)
    assert Fare("linf", 0.1).parts(10)["apgd-ce"].restarts == 5
    assert {p.eot for p in Rand("linf", 0.1, eot=20).parts(10).values()} == {20}
    assert {p.eot for p in Tecoa("linf", 0.1).parts(10).values()} == {1}


def test_the_worst_of_its_parts_and_who_broke_whom(toy: Toy) -> None:
    """Large logits saturate the cross-entropy; the later parts break what APGD-CE then cannot."""
    model, images, labels = toy

    def confident(pictures: Tensor) -> Tensor:
        logits: Tensor = 30 * model(pictures)
        return logits

    ensemble = Standard("linf", 0.08, steps=6)
    result = run(ensemble, confident, images, labels)
    alone = ensemble.parts(5)["apgd-ce"](Plain(confident), images, labels, KEYS)
    by = result.telemetry["broken_by"]
    assert torch.equal(result.success, by > 0)
    assert (by > 1).any() and (by == 1).any() and (by == 0).any()
    assert int(alone.success.sum()) + 5 < int(result.success.sum())
    assert not result.repaired.any()
    assert (result.images != images).flatten(1).any(1)[~result.success].all()  # the highest loss, not the clean image


@dataclass
class Moves(Attack):
    """Moves every image by a share of eps."""

    share: float = 1.0

    def perturb(self, run: Run) -> Tensor:
        return run.images + self.share * self.eps


def test_what_stands_is_as_the_first_part_left_it_and_what_falls_as_its_breaker_did() -> None:
    images, labels = torch.tensor([0.5, 0.7])[:, None, None, None].expand(2, 3, 4, 4), torch.zeros(2, dtype=torch.long)
    parts = {"up": Moves("linf", 0.1, 0.5), "down": Moves("linf", 0.1, -1.0), "little": Moves("linf", 0.1, 0.25)}

    def model(x: Tensor) -> Tensor:
        dark = (x.flatten(1).mean(1) < 0.45).float()
        return torch.stack([1 - dark, dark], 1)

    class Three(Ensemble):
        def parts(self, classes):
            return dict(parts)

    result = run(Three("linf", 0.1), model, images, labels)
    assert result.telemetry["broken_by"].tolist() == [2, 0]
    assert torch.allclose(result.images.mean((1, 2, 3)), torch.tensor([0.4, 0.75]))


def test_later_parts_see_only_what_still_stands(toy: Toy) -> None:
    model, images, labels = toy
    seen, keys = [], []

    class Part(APGDCE):
        def perturb(self, run):
            seen.append(len(run.images))
            keys.append(run.keys)
            return super().perturb(run)

    parts = {name: Part("linf", 0.06, steps=5) for name in ("one", "two", "three")}

    class Parts(Ensemble):
        def parts(self, classes):
            return parts

    result = run(Parts("linf", 0.06), model, images, labels)
    assert seen[0] == 40 > seen[1] >= seen[2] >= int((~result.success).sum())
    assert not set(keys[0]) & set(keys[1])  # another part, another start


@pytest.mark.parametrize("recipe", [Standard, Fare])
def test_batch_split_and_order_do_not_matter(toy: Toy, recipe) -> None:
    model, images, labels = toy
    ensemble = recipe("linf", 0.06, steps=4)
    whole = run(ensemble, model, images, labels).images
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for part in order.split([1, 7, 32]):
        keys = tuple(KEYS[i] for i in part.tolist())
        assert torch.allclose(run(ensemble, model, images[part], labels[part], keys).images, whole[part], atol=1e-6)


@pytest.mark.parametrize("recipe", [Standard, Rand, Fare, Tecoa])
def test_one_class_tied_prompts_and_a_batch_of_one_class(toy: Toy, recipe) -> None:
    model, images, labels = toy
    ensemble = recipe("linf", 0.1, steps=3)
    alone = run(ensemble, lambda x: model(x)[:, :1], images[labels == 0], labels[labels == 0])
    assert torch.equal(alone.images, images[labels == 0])
    assert alone.notes == ["with 1 classes: no attack, there is nothing to reach"]
    same = run(ensemble, model, images[labels == 2], labels[labels == 2])
    assert torch.isfinite(same.images).all() and same.success.shape == (8,)
    tied = run(ensemble, lambda x: model(x)[:, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]], images, labels)
    assert torch.isfinite(tied.images).all() and not tied.repaired.any()
    constant = run(ensemble, lambda x: torch.zeros(len(x), 6), images, torch.zeros_like(labels))
    assert not constant.success.any()


def test_misclassified_images_return_as_they_are(toy: Toy) -> None:
    model, images, _ = toy
    labels = (model(images).argmax(1) + 1) % 5
    result = run(Standard("linf", 0.1, steps=3), model, images, labels)
    assert torch.equal(result.images, images) and (result.telemetry["broken_by"] == 1).all()


class Coin(Plain):
    """Says the wrong class in every third call, whatever the images."""

    calls = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        return self.logits(images).flip(1) if self.calls % 3 == 0 else self.logits(images)

    def select(self, index: Tensor) -> "Coin":
        return Coin(self.logits)


def test_luck_breaks_nothing_under_eot() -> None:
    def logits(pictures: Tensor) -> Tensor:
        score = pictures.mean((1, 2, 3))
        return torch.stack([score + 1, score], dim=1)

    images, labels = torch.full((4, 3, 4, 4), 0.5), torch.zeros(4, dtype=torch.long)
    result = Rand("linf", 0.1, steps=4, eot=6)(Coin(logits), images, labels, KEYS[:4])
    assert (result.telemetry["broken_by"] == 0).all()
