"""FT-Adv.'s training (the baseline of Yu et al. 2024): PGD, then FT-Clean's loss on the images found."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import train_tower

from ..ft_clean.train import CleanTraining
from .losses import one_hot


class AdversarialTraining(CleanTraining):
    """The image tower on attacked pictures.

    Deviations: `loss`, as in FT-Clean, or `one-hot`, whose head is trained with the tower and thrown away; and
    `attack_loss`, what the attack maximises: the texts of all classes, or what is trained.
    """

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        super().__init__(base, prompts, deviations)
        if self.kind == "one-hot":
            dimensions = base.text_features(prompts).shape[1]
            drawn = torch.randn(len(prompts), dimensions, generator=torch.Generator().manual_seed(0))
            self._weights["head"] = (drawn / dimensions**0.5).to(base.device)

    def contrast(self, images: Tensor, labels: Tensor) -> Tensor:
        """See CleanTraining."""
        if self.kind == "one-hot":
            return one_hot(self.student.encode_image(images), self._weights["head"], labels)
        return super().contrast(images, labels)

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        labels = batch["labels"]
        to_texts = self.deviations.get("attack_loss") != "trained" and self.kind != "one-hot"

        def objective(images: Tensor) -> Tensor:
            if to_texts:
                return F.cross_entropy(self.student(images, self.prompts), labels)
            return self.contrast(images, labels)

        found = worst_images(objective, batch["images"], batch.keys, phase.budget)
        return {"contrast": self.contrast(found, labels)}


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    return train_tower(job, AdversarialTraining)
