"""FT-Clean's training (the baseline of Yu et al. 2024): the contrastive loss on pictures as they are."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import TowerTraining, train_tower

from .losses import in_batch


class CleanTraining(TowerTraining):
    """The image tower on clean pictures.

    The deviation `loss`: `in-batch` compares with the texts of the batch, `class-texts` with those of all classes.
    """

    terms = ("contrast",)
    usual_loss: ClassVar[str] = "in-batch"

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        super().__init__(base, prompts, deviations)
        self.kind = deviations.get("loss", self.usual_loss)
        self.couples_batch = self.kind == "in-batch"

    def contrast(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of images [B, 3, S, S], a scalar."""
        logits = self.student(images, self.prompts)
        return in_batch(logits, labels) if self.kind == "in-batch" else F.cross_entropy(logits, labels)

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        return {"contrast": self.contrast(batch["images"], batch["labels"])}


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    return train_tower(job, CleanTraining)
