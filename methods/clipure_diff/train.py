"""Trains the small priors: DALL-E 2's denoising loss (Ramesh et al. 2022, equation 2) on a backbone's embeddings.

At every step each embedding gets a timestep in 0..999, a noise, its class's text, and drops of text and image.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.packing import unpack
from vlm_gauntlet.training.checkpoint import packed_tensors
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch, Samples
from vlm_gauntlet.training.trainer import Training

from .method import FIRST, LAST
from .prior import TIMESTEPS, Condition, Prior
from .residual import ResidualPrior

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
    rows, labels = [], []
    with torch.no_grad():
        for batch in data.batches(limit=None, batch_size=100, size=backbone.image_size):
            rows.append(backbone.encode_image(batch.images.to(backbone.device)))
            labels.append(batch.labels)
    texts = backbone.text_features(data.prompts)[torch.cat(labels).to(backbone.device)]
    return Embeddings(F.normalize(torch.cat(rows), dim=-1), texts)


class NoisedEmbeddings(Samples):
    """Embeddings drawn with replacement; everything random comes from one stream of the seed.

    Args:
        known: all of them.
        digest: of the data that they come from.
    """

    def __init__(self, known: Embeddings, *, seed: int, digest: str) -> None:
        self.known, self.seed, self.digest = known, seed, digest
        self.stream = torch.Generator().manual_seed(seed)
        self.generators = {"stream": self.stream}

    def __len__(self) -> int:
        return len(self.known.image)

    def batches(self, size: int, first: int) -> Iterator[Batch]:
        """See Samples."""
        while True:
            index = torch.randint(len(self), (size,), generator=self.stream)
            drawn = self.known.part(index)
            keep = {f"keep_{name}": torch.rand(size, generator=self.stream) >= drop for name, drop in DROPS.items()}
            timesteps = torch.randint(TIMESTEPS, (size,), generator=self.stream)
            noise = torch.randn(drawn.image.shape, generator=self.stream)
            tensors = {"image": drawn.image, "text": drawn.text, "timesteps": timesteps, "noise": noise, **keep}
            yield Batch(tensors, tuple(index.tolist()))


class PriorTraining(Training):
    """All of a small prior; its first weights come from the seed.

    Args:
        dim: D.
        seed: of the first weights.
        start: digest of the backbone whose embeddings are learned.
    """

    terms = ("denoising",)

    def __init__(self, dim: int, *, seed: int, start: str, device: torch.device | str = "cpu") -> None:
        self.start = start
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.prior = ResidualPrior(dim).to(device)

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return dict(self.prior.named_parameters())

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        condition = Condition(batch["text"], batch["keep_text"], batch["keep_image"])
        return {"denoising": self.prior.loss(batch["image"], batch["timesteps"], batch["noise"], condition).mean()}


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


def train(job: TrainingJob) -> Path:
    """Trains on embeddings of the whole split, reports losses of some held out, and packs matrices as int8.

    Returns:
        the prior's path.
    """
    known = embed(job.base, job.dataset)
    held = torch.arange(len(known.image)) % HELD_OUT == 0
    mean, test, dim = known.image[~held].mean(0), known.image[held], known.image.shape[1]
    training, fresh = (
        PriorTraining(dim, seed=job.seed, start=job.base.digest, device=known.image.device) for _ in range(2)
    )
    job.fit(training, NoisedEmbeddings(known.part(~held), seed=job.seed, digest=job.dataset.digest))
    packed = packed_tensors(training.prior.state_dict(), int8=True)
    shipped = ResidualPrior.of(unpack(load(packed))).to(known.image.device)
    for first, last in ((0, TIMESTEPS - 1), (FIRST, LAST)):
        losses = [null_loss(p, test, first=first, last=last) for p in (fresh.prior, shipped, mean)]
        job.say(
            f"t in {first}..{last}: held-out loss of {len(test)} embeddings before {losses[0]:.4f}, "
            f"after {losses[1]:.4f}, of the mean of the {int((~held).sum())} others {losses[2]:.4f}"
        )
    return job.finish(packed)
