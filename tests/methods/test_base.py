"""The contract of Defence: what the base class guarantees for every author, and what it catches."""

import pytest
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence


class Honest(Defence):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.backbone(images, prompts)


class RunningMean(Honest):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.mean.lerp_(images.detach().mean((0, 2, 3)), 0.1)
        return super().forward(images, prompts)


class Counter(Honest):
    seen = 0

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.seen += len(images)
        return super().forward(images, prompts)


class HiddenCache(Honest):
    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.cache: dict[str, list[int]] = {"sizes": []}

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.cache["sizes"].append(len(images))
        return super().forward(images, prompts)


class ModeChanger(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        self.train()
        return super().forward(images, prompts)


class NotANumber(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward(images, prompts) * float("nan")


class MissingClass(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward(images, prompts)[:, :-1]


class GlobalNoise(Honest):
    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return super().forward((images + 0.1 * torch.randn_like(images)).clamp(0, 1), prompts)


@pytest.mark.parametrize(
    ("defence", "message"),
    [
        (RunningMean, "state leaks.*mean"),
        (Counter, "state leaks.*seen"),
        (HiddenCache, "state leaks.*cache"),
        (ModeChanger, "mode changed"),
        (NotANumber, "finite: False"),
        (MissingClass, r"output \(6, 4\)"),
    ],
)
def test_broken_contracts_are_named(
    defence: type[Defence], message: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    with pytest.raises(ContractError, match=message):
        defence(tiny_backbone)(images, prompts)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x * 2, r"images in \[0\.\d+, 2\]"),
        (lambda x: x - 1, r"images in \[-"),
        (lambda x: x.double(), "float64"),
        (lambda x: x[0], "shape"),
        (lambda x: x[:, :1], "shape"),
        (lambda x: x[:0], "shape"),
        (lambda x: x.where(x > 0.5, torch.nan), "NaN"),
    ],
)
def test_bad_images_get_one_clear_error(
    spoil: "object", message: str, tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    with pytest.raises(GauntletError, match=message):
        Honest(tiny_backbone)(spoil(images), prompts)  # type: ignore[operator]


def test_global_rng_is_the_callers(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    GlobalNoise(tiny_backbone)(images, prompts)
    assert torch.equal(torch.rand(4), expected)


def test_global_noise_follows_the_draws(tiny_backbone: Backbone, images: Tensor, prompts: PromptSet) -> None:
    defence, keys = GlobalNoise(tiny_backbone), tuple(range(6))
    first, same = (defence(images, prompts, draws=Draws(keys, 0)) for _ in "ab")
    fresh = defence(images, prompts, draws=Draws(keys, 1))
    assert torch.equal(first, same) and not torch.equal(first, fresh)


def test_default_surrogate_is_bpda_through_the_whole_defence(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet
) -> None:
    class Blind(Defence):
        def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
            with torch.no_grad():
                return 2 * self.backbone(images, prompts)

    defence, inputs = Blind(tiny_backbone), images.requires_grad_()
    value = defence(inputs, prompts, gradient="straight-through")
    assert torch.allclose(value, defence(inputs, prompts), atol=1e-5)
    (through,) = torch.autograd.grad(value.sum(), inputs)
    (plain,) = torch.autograd.grad(tiny_backbone(inputs, prompts).sum(), inputs)
    assert torch.allclose(through, plain)
