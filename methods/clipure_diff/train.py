"""Trains the small priors: DALL-E 2's denoising loss (Ramesh et al. 2022, equation 2) on a backbone's embeddings.

At every step each embedding gets a timestep in 0..999, a noise, its class's text, and drops of text and image.
"""

from dataclasses import dataclass
from math import cos, pi
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import write_atomically
from vlm_gauntlet.fixtures.packing import pack, unpack

from ..fine_tuning import load_training_set
from ..training import Order
from .method import FIRST, LAST
from .prior import TIMESTEPS, Condition, Prior
from .residual import ResidualPrior

EPOCHS = 150
HELD_OUT = 10  # one embedding in ten is never trained on
DROPS = {"text": 0.5, "image": 0.1}  # text half of the time, since the defence mostly asks without


@dataclass(frozen=True)
class Embeddings:
    """Unit image embeddings [N, D] with the unit embeddings of their classes' texts [N, D]."""

    image: Tensor
    text: Tensor

    def part(self, chosen: Tensor) -> "Embeddings":
        """The rows that a mask or an index chooses."""
        return Embeddings(self.image[chosen], self.text[chosen])


def embed(backbone: Backbone, data: Dataset) -> Embeddings:
    """The whole split through the undefended towers."""
    images, labels = load_training_set(data, backbone.image_size)
    with torch.no_grad():
        rows = [backbone.encode_image(part.to(backbone.device).float() / 255) for part in torch.split(images, 100)]
    return Embeddings(F.normalize(torch.cat(rows), dim=-1), backbone.text_features(data.prompts)[labels])


def fit(known: Embeddings, *, epochs: int, seed: int, batch_size: int = 256, rate: float = 1e-3) -> ResidualPrior:
    """A small prior on these embeddings: AdamW, the rate falls by half a cosine to zero.

    Everything random, the first weights too, comes from `seed`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prior = ResidualPrior(known.image.shape[1]).to(known.image)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(prior.parameters(), lr=rate, weight_decay=0.01)
    total = epochs * (len(known.image) // batch_size)
    for step in range(total):
        optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + cos(pi * step / total))
        batch = known.part(torch.randint(len(known.image), (batch_size,), generator=generator))
        keep = {name: (torch.rand(batch_size, generator=generator) >= drop).to(batch.image.device)
                for name, drop in DROPS.items()}  # fmt: skip
        timesteps = torch.randint(TIMESTEPS, (batch_size,), generator=generator)
        noise = torch.randn(batch.image.shape, generator=generator)
        loss = prior.loss(
            batch.image, timesteps.to(batch.image.device), noise.to(batch.image),
            Condition(batch.text, keep["text"], keep["image"]),
        ).mean()  # fmt: skip
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    optimiser.zero_grad()
    return prior.eval().requires_grad_(False)


def null_loss(
    prior: Prior | Tensor, features: Tensor, *, first: int, last: int, seed: int = 0, rounds: int = 4
) -> float:
    """Mean denoising loss without text over timesteps first..last, of a prior or of a constant prediction z [D]."""
    if isinstance(prior, Tensor):  # |sqrt(D) z - sqrt(D) c|^2 averaged over D
        return float((features - prior).square().sum(-1).mean())
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(rounds):
        timesteps = torch.randint(first, last + 1, (len(features),), generator=generator).to(features.device)
        noise = torch.randn(features.shape, generator=generator).to(features)
        with torch.no_grad():
            values.append(prior.loss(features, timesteps, noise, Condition.null(features)))
    return float(torch.cat(values).mean())


def train(order: Order) -> Path:
    """Trains on embeddings of the whole split in one go, reports losses of some held out, and packs matrices as int8.

    Returns:
        the prior's path.

    Raises:
        GauntletError: deviations were chosen; they change the purification, never the prior.
    """
    if order.deviations:
        raise GauntletError(
            f"a prior with {', '.join(order.deviations)}", expected="none: they change the purification",
            where="METHOD", fix="gauntlet train clipure_diff",
        )  # fmt: skip
    backbone, data = order.load()
    known = embed(backbone, data)
    held = torch.arange(len(known.image)) % HELD_OUT == 0
    trained = fit(known.part(~held), epochs=order.epochs or EPOCHS, seed=order.seed)
    state = {name: tensor.cpu() for name, tensor in trained.state_dict().items()}
    packed = pack(state, int8={name for name, tensor in state.items() if tensor.dim() == 2})
    mean, test = known.image[~held].mean(0), known.image[held]
    shipped = ResidualPrior.of(unpack(packed)).to(order.device)
    fresh = fit(known.part(~held), epochs=0, seed=order.seed)
    for first, last in ((0, TIMESTEPS - 1), (FIRST, LAST)):
        losses = [null_loss(p, test, first=first, last=last) for p in (fresh, shipped, mean)]
        order.report(
            f"t in {first}..{last}: held-out loss of {len(test)} embeddings before {losses[0]:.4f}, "
            f"after {losses[1]:.4f}, of the mean of the {int((~held).sum())} others {losses[2]:.4f}"
        )
    write_atomically(order.path, save(packed))
    return order.pinned(backbone)
