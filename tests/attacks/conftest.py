"""Victims whose right answer is known, and a toy that is really trained."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

torch.set_num_threads(1)
SHAPE = (3, 4, 4)


def classifier(weight: Tensor, bias: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Two classes, logits (-s, s)/2 with s = <weight, x> + bias; double inside, so that rounding plays no part."""

    def logits(images: Tensor) -> Tensor:
        score = (images.double().flatten(1) * weight.double().flatten()).sum(1) + bias
        return torch.stack([-score / 2, score / 2], dim=1)

    return logits


@pytest.fixture(scope="session")
def toy() -> tuple[nn.Module, Tensor, Tensor]:
    """A small network trained on five noisy patterns: (model, 40 held-out images, labels)."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.rand(5, *SHAPE, generator=generator)
    labels = torch.arange(240) % 5
    noise = 0.25 * torch.randn(240, *SHAPE, generator=generator)
    images = (0.5 * patterns[labels] + 0.25 + noise).clamp(0, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(48, 24), nn.Tanh(), nn.Linear(24, 5)).double()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images[:200].double()), labels[:200]).backward()
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return nn.Sequential(Double(), model).eval(), images[200:], labels[200:]


class Double(nn.Module):
    """float32 images into a float64 model."""

    def forward(self, images: Tensor) -> Tensor:
        return images.double()
