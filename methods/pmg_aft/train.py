"""PMG-AFT's training (Wang et al. 2024, section 3): TeCoA's attack, then three terms on the images found."""

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
from vlm_gauntlet.training.tower import TowerTraining, train_tower

from ..normalisation import normalised_as_imagenet
from .losses import guided


class PMGAFTTraining(TowerTraining):
    """The whole image tower; the original sees the images that were made on the tuned one.

    Deviations: `direction` and `reduction` of the divergences, `temperature` and `normalisation` of everything, the
    attack included, and whether the clean branch of the tuned model gets a gradient.
    """

    terms = ("robust", "general", "clean")

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        imagenet = deviations.get("normalisation") == "imagenet"
        super().__init__(normalised_as_imagenet(base) if imagenet else base, prompts, deviations)

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        images, labels = batch["images"], batch["labels"]
        found = worst_images(
            lambda x: F.cross_entropy(self.logits(self.student, x), labels), images, batch.keys, phase.budget
        )
        with torch.no_grad():
            general = self.logits(self.base, found)
        clean = self.logits(self.student, images)
        if self.deviations.get("clean_branch") == "constant":
            clean = clean.detach()
        first = self.deviations.get("direction") != "attacked-first"
        robust, general, clean = guided(self.logits(self.student, found), general, clean, labels, reference_first=first)
        # A sum over the whole batch, also where it is computed in parts.
        weight = phase.batch_size if self.deviations.get("reduction") == "sum" else 1
        return {"robust": robust, "general": weight * general, "clean": weight * clean}

    def logits(self, model: Backbone, images: Tensor) -> Tensor:
        """Logits [B, K] of the training's classes; with `temperature=one`, cosines."""
        logits = model(images, self.prompts)
        return logits / model.logit_scale if self.deviations.get("temperature") == "one" else logits


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    return train_tower(job, PMGAFTTraining)
