"""What a built defence holds decides its digest; where it lies, in which order, and what running leaves do not."""

import functools
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.state import state_digest, tensor_digest


class Plain(Defence):
    """Whatever a test gives it."""

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.backbone(images, prompts)


@dataclass(frozen=True)
class Bank:
    features: Tensor
    words: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @functools.cached_property
    def mean(self) -> Tensor:
        return self.features.mean(0)


class Slots:
    __slots__ = ("left",)

    def __init__(self, left: float) -> None:
        self.left = left


def digest(backbone: Backbone, value: object = 0) -> str:
    made = Plain(backbone)
    made.own = value  # type: ignore[assignment]
    return state_digest(made, backbone)


def scaled(rate: float) -> Callable[[Tensor], Tensor]:
    return lambda x: x * rate


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


ONES = torch.ones(2, 3)
PICTURE = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
PAIRS: dict[str, tuple[object, object]] = {
    "value": (ONES, ONES * 2),
    "shape": (ONES, ONES.T.contiguous()),
    "type": (ONES, ONES.double()),
    "half": (ONES.bfloat16(), ONES.bfloat16() * 2),
    "scalar": (torch.tensor(1.0), torch.tensor(2.0)),
    "bits": (torch.tensor([True]), torch.tensor([False])),
    "complex": (torch.tensor([1 + 1j]), torch.tensor([1 - 1j])),
    "sparse": (ONES.to_sparse(), (ONES * 2).to_sparse()),
    "array": (np.ones(2), np.zeros(2)),
    "objects": (np.array(["a", 1], object), np.array(["a", 2], object)),
    "module": (linear(0), linear(1)),
    "number": (0.1, 0.2),
    "words": ("a", "b"),
    "one or true": (1, True),
    "one or one": (1, 1.0),
    "order": ([1, 2], [2, 1]),
    "nested": ({"a": [ONES]}, {"a": [ONES * 2]}),
    "key": ({"a": 1}, {"b": 1}),
    "set": ({1, 2}, {1, 3}),
    "dataclass": (Bank(ONES), Bank(ONES * 2)),
    "its words": (Bank(ONES, {"a": ("x",)}), Bank(ONES, {"a": ("y",)})),
    "slots": (Slots(1.0), Slots(2.0)),
    "closure": (scaled(0.1), scaled(0.2)),
    "partial": (functools.partial(max, 1), functools.partial(max, 2)),
    "bound": (Slots(1.0).__init__, Slots(2.0).__init__),  # type: ignore[misc]
    "file name": (Path("/a/one.npy"), Path("/a/two.npy")),
    "dropped mode": (linear(0).eval(), linear(0).train()),
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_it_holds_counts(name: str, tiny_backbone: Backbone) -> None:
    first, second = PAIRS[name]
    assert digest(tiny_backbone, first) == digest(tiny_backbone, first) != digest(tiny_backbone, second)


def ring(value: float) -> dict[str, object]:
    made: dict[str, object] = {"value": value}
    made["self"] = [made]
    return made


def used(bank: Bank) -> Bank:
    assert bank.mean is not None
    return bank


SAME: dict[str, tuple[object, object]] = {
    "layout": (PICTURE, PICTURE.clone().to(memory_format=torch.channels_last)),
    "order of keys": ({"a": 1, "b": ONES}, {"b": ONES.clone(), "a": 1}),
    "order of a set": ({f"{i}" for i in range(9)}, {f"{i}" for i in reversed(range(9))}),
    "gradient": (ONES, nn.Parameter(ONES.clone())),
    "folder": (Path("/one/w.npy"), Path("/two/w.npy")),
    "folder in words": ("/one/w.npy", "/two/w.npy"),
    "generator": (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)),
    "random": (random.Random(1), random.Random(2)),
    "cached property": (Bank(ONES), used(Bank(ONES.clone()))),
    "ring": (ring(1.0), ring(1.0)),
    "log": (logging.getLogger("one"), logging.getLogger("two")),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_where_and_how_it_lies_does_not_count(name: str, tiny_backbone: Backbone) -> None:
    first, second = SAME[name]
    assert digest(tiny_backbone, first) == digest(tiny_backbone, second)


def test_a_ring_is_read_once(tiny_backbone: Backbone) -> None:
    assert digest(tiny_backbone, ring(1.0)) != digest(tiny_backbone, ring(2.0))


def test_parameters_and_buffers_count_also_where_they_are_not_saved(tiny_backbone: Backbone) -> None:
    found = set()
    for value in (0.0, 1.0):
        for kind in ("parameter", "buffer", "fleeting"):
            made = Plain(tiny_backbone)
            tensor = torch.full((2,), value)
            if kind == "parameter":
                made.own = nn.Parameter(tensor)
            else:
                made.register_buffer("own", tensor, persistent=kind == "buffer")
            found.add(state_digest(made, tiny_backbone))
    assert len(found) == 2, "the kinds of storage are one, the values two"


def test_data_in_a_class_body_counts(tiny_backbone: Backbone) -> None:
    kinds = [type("Same", (Plain,), {"TABLE": torch.tensor([value]), "f": lambda self: 0}) for value in (1.0, 2.0)]
    assert len({state_digest(kind(tiny_backbone), tiny_backbone) for kind in kinds}) == 2


def test_the_undefended_backbone_is_named_and_a_tuned_one_is_read(tiny_backbone: Backbone) -> None:
    name = "conv1.weight"
    tuned = [tiny_backbone.tuned({name: torch.tensor(step)}) for step in (0.0, 0.1)]
    assert len({digest(tiny_backbone, tower) for tower in (*tuned, tiny_backbone)}) == 3
    assert digest(tiny_backbone, tuned[1]) == digest(tiny_backbone, tiny_backbone.tuned({name: torch.tensor(0.1)}))
    on_tower = [state_digest(Plain(tower), tiny_backbone) for tower in tuned]
    assert len({*on_tower, digest(tiny_backbone)}) == 3, "ttc@tecoa"
    assert digest(tiny_backbone, tiny_backbone.clip.visual) != digest(tiny_backbone, tiny_backbone.clip.transformer)


def test_running_changes_nothing(
    tiny_backbone: Backbone, prompts: PromptSet, images: Tensor, tiny_twin: Backbone
) -> None:
    made = Plain(tiny_backbone)
    made.own = tiny_twin
    before = state_digest(made, tiny_backbone)
    made(images, prompts)
    tiny_twin(images, prompts)
    assert state_digest(made, tiny_backbone) == before


@pytest.fixture
def tiny_twin(tiny_backbone: Backbone) -> Backbone:
    return tiny_backbone.tuned({"conv1.weight": torch.tensor(0.2)})


def test_a_bottomless_chain_is_one_clear_error(tiny_backbone: Backbone) -> None:
    chain: list[object] = []
    for _ in range(5000):
        chain = [chain]
    with pytest.raises(GauntletError, match="nest too deeply"):
        digest(tiny_backbone, chain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_the_device_does_not_count() -> None:
    assert tensor_digest(ONES) == tensor_digest(ONES.cuda())
