"""One walk sees every parameter, buffer, attribute and mode of a module, wherever it lies."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.draws import Draws
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.fingerprint import fingerprint


class Deep(Defence):
    """State of every kind, two modules below the top."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.inner[0].notes = {"seen": [1, 2]}  # type: ignore[assignment]
        self.again = self.inner[0]  # one module under two names
        self.eval()

    def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
        return self.backbone(images, prompts)


def set_gradient(made: Deep) -> None:
    made.inner[0].weight.grad = torch.zeros(2, 2)


def in_place(made: Deep) -> None:
    with torch.no_grad():
        made.inner[0].weight.mul_(1)


CHANGES: dict[str, Callable[[Deep], object]] = {
    "inner.0.weight": in_place,
    "inner.0.bias": lambda made: setattr(made.inner[0], "bias", nn.Parameter(made.inner[0].bias.clone())),
    "inner.1.running_mean": lambda made: made.inner[1].running_mean.add_(1),  # type: ignore[operator, union-attr]
    "inner.1.eps": lambda made: setattr(made.inner[1], "eps", 0.1),
    "inner.0.notes": lambda made: made.inner[0].notes["seen"].append(3),  # type: ignore[union-attr, index]
    "inner.1.late": lambda made: made.inner[1].register_buffer("late", torch.ones(1)),
    "inner.2.weight": lambda made: made.inner.append(nn.Linear(2, 2)),
    "deviations": lambda made: made.deviations.update(new="x"),
    "backbone.clip.visual.proj": lambda made: made.backbone.clip.visual.proj.mul_(1),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named(name: str, tiny_backbone: Backbone) -> None:
    made = Deep(tiny_backbone)
    before = fingerprint(made)
    assert before.changes(fingerprint(made)) == []
    CHANGES[name](made)
    assert name in before.changes(fingerprint(made))


def test_a_gradient_left_behind_is_named(tiny_backbone: Backbone) -> None:
    made = Deep(tiny_backbone)
    before = fingerprint(made)
    set_gradient(made)
    assert before.changes(fingerprint(made)) == ["inner.0.weight"]


def test_every_tensor_and_module_of_torchs_own_walk_is_in_it(tiny_backbone: Backbone) -> None:
    made = Deep(tiny_backbone)
    found = fingerprint(made)
    tensors = {name for name, _ in [*made.named_parameters(), *made.named_buffers()]}
    assert tensors <= found.marks.keys()
    assert {path.rstrip(".") for path in found.modes} == {name for name, _ in made.named_modules()}
    made.inner[1].train()
    assert [path for path, mode in fingerprint(made).modes.items() if mode] == ["inner.1."]


def test_the_callers_generator_comes_back_after_an_error(tiny_backbone: Backbone, images: Tensor) -> None:
    class Fails(Deep):
        def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
            torch.rand(3)
            raise ArithmeticError

    made = Fails(tiny_backbone)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with pytest.raises(ArithmeticError):
        made(images, PromptSet.from_templates(["a", "b"], ["{c}"]))
    assert torch.equal(torch.rand(4), expected)


def test_code_that_draws_globally_gets_the_streams_seed(tiny_backbone: Backbone, images: Tensor) -> None:
    """Torch's generator stands at the seed of the call's streams, as `torch.manual_seed` would have it."""
    drawn: list[Tensor] = []

    class Noisy(Deep):
        def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
            drawn.append(torch.rand(4))
            return super().forward(images, prompts)

    streams, made = Draws(tuple(range(6))), Noisy(tiny_backbone)
    made(images, PromptSet.from_templates(["a", "b"], ["{c}"]), draws=streams)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(streams.torch_seed())
        assert torch.equal(drawn[0], torch.rand(4))
