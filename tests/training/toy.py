"""A training that can be computed by hand: linear regression with two weights, in float32."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vlm_gauntlet.training.recipe import Phase, Recipe
from vlm_gauntlet.training.samples import Batch, InMemory
from vlm_gauntlet.training.trainer import Training


class Line(Training):
    """y = x w + b; the phase `bias` trains b alone, any other both."""

    terms = ("square", "decay")

    def __init__(self, couples_batch: bool = False, kill_at: int | None = None) -> None:
        self.start, self.couples_batch = "zero", couples_batch
        self.w, self.b, self.calls, self.kill_at = torch.ones(3), torch.zeros(1), 0, kill_at

    @property
    def weights(self) -> Mapping[str, Tensor]:
        return {"w": self.w, "b": self.b}

    def groups(self, phase: str) -> Mapping[str, list[str]]:
        return {"bias": ["b"]} if phase == "bias" else {"slope": ["w"], "bias": ["b"]}

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == self.kill_at:
            raise KeyboardInterrupt
        square = (batch["x"] @ self.w + self.b - batch["y"]).square().mean()
        return {"square": square} if phase.name == "bias" else {"square": square, "decay": 0.01 * self.w.square().sum()}


def points(n: int = 22, seed: int = 0) -> InMemory:
    """n points near a plane."""
    noise = torch.Generator().manual_seed(1)
    x = torch.randn(n, 3, generator=noise)
    y = x @ torch.tensor([1.0, -2.0, 0.5]) + 0.3 + 0.1 * torch.randn(n, generator=noise)
    return InMemory({"x": x, "y": y}, seed=seed, digest=f"points {n}")


def recipe(**fields: object) -> Recipe:
    """SGD with momentum over 3 epochs of batches of 5, if nothing else is said."""
    sgd = {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9}
    usual = {"epochs": 3, "batch_size": 5, "optimiser": sgd, "schedule": {"warmup": 2}, "save_every": 2}
    return Recipe(**{**usual, **fields})
