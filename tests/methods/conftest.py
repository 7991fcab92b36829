"""Fixtures of the tests of methods: embeddings in clusters, and a small diffusion prior trained on them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vlm_gauntlet.methods.clipure_diff.residual import ResidualPrior
from vlm_gauntlet.methods.clipure_diff.train import Embeddings, NoisedEmbeddings, PriorTraining
from vlm_gauntlet.training.recipe import read_recipe
from vlm_gauntlet.training.trainer import fit

RECIPES = Path(__file__).parents[2] / "methods" / "clipure_diff" / "recipes"


@pytest.fixture(scope="session")
def clusters() -> Embeddings:
    """Unit embeddings [512, 16] around four directions, each with a text of its own."""
    generator = torch.Generator().manual_seed(0)
    centres = F.normalize(torch.randn(4, 16, generator=generator), dim=-1)
    owner = torch.arange(512) % 4
    image = F.normalize(centres[owner] + 0.1 * torch.randn(512, 16, generator=generator), dim=-1)
    return Embeddings(image, F.normalize(torch.randn(4, 16, generator=generator), dim=-1)[owner])


def trained_prior(known: Embeddings, *, epochs: int, seed: int) -> ResidualPrior:
    """By the recipe; with 0 epochs, untrained."""
    training = PriorTraining(known.image.shape[1], seed=seed, start="tiny")
    if epochs:
        recipe = read_recipe(RECIPES / "reproduction.toml").lasting(epochs=epochs)
        fit(training, recipe, NoisedEmbeddings(known, seed=seed, digest="clusters"), None)
    return training.prior.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def train_prior() -> Callable[..., ResidualPrior]:
    """Trains a prior for a test."""
    return trained_prior


@pytest.fixture(scope="session")
def prior(clusters: Embeddings) -> ResidualPrior:
    """Trained for seconds, as wide as the features of the tiny backbone."""
    return trained_prior(clusters, epochs=150, seed=0)
