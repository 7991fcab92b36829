"""Fixtures of the tests of methods: embeddings in clusters, and a small diffusion prior trained on them."""

import pytest
import torch
import torch.nn.functional as F

from vlm_gauntlet.methods.clipure_diff.residual import ResidualPrior
from vlm_gauntlet.methods.clipure_diff.train import Embeddings, fit


@pytest.fixture(scope="session")
def clusters() -> Embeddings:
    """Unit embeddings [512, 16] around four directions, each with a text of its own."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(4, 16, generator=generator), dim=-1)
    owner = torch.arange(512) % 4
    image = F.normalize(centres[owner] + 0.1 * torch.randn(512, 16, generator=generator), dim=-1)
    return Embeddings(image, F.normalize(torch.randn(4, 16, generator=generator), dim=-1)[owner])


@pytest.fixture(scope="session")
def prior(clusters: Embeddings) -> ResidualPrior:
    """Trained for seconds, as wide as the features of the tiny backbone."""
    return fit(clusters, epochs=150, seed=0)
