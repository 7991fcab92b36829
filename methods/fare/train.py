"""FARE's training (Schlarmann et al. 2024, section 3.2): PGD away from the original embedding, a step back to it."""

from pathlib import Path

import torch
from torch import Tensor

from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import TowerTraining, train_tower

from .losses import embedding_distance


class FARETraining(TowerTraining):
    """The whole image tower, on adversarial images alone; neither labels nor texts are looked at.

    The official attack has a momentum of 0.9 and re-signs its velocity, v = sign(0.9 v + sign(g)): that is sign(g)
    wherever the gradient is not exactly zero, and so is this one.
    """

    terms = ("distance",)

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        with torch.no_grad():
            original = self.base.encode_image(batch["images"])

        def objective(images: Tensor) -> Tensor:
            features = self.student.encode_image(images)
            return embedding_distance(features, original, distance=self.deviations.get("distance", "squared-l2"))

        return {"distance": objective(worst_images(objective, batch["images"], batch.keys, phase.budget))}


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    return train_tower(job, FARETraining)
