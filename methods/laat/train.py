"""LAAT's training (Li et al. 2024) on an image tower: PGD on the alignment loss, then a step on it and smoothness."""

from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import TowerTraining, train_tower

from .anchors import Expansion
from .losses import alignment, divergence, smoothness

SMOOTHNESS_WEIGHT = 1.0  # beta of the code


class LAATTraining(TowerTraining):
    """The whole image tower, towards fixed anchors: the class texts, expanded by a fit on these classes.

    Attributes:
        expansion: None under the deviation `anchors=raw`.
        anchors: [K, D], constant.
    """

    terms = ("alignment", "smoothness", "divergence")

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        super().__init__(base, prompts, deviations)
        texts = base.text_features(prompts)
        self.expansion = None if deviations.get("anchors") == "raw" else Expansion.fit(texts)
        self.anchors = texts if self.expansion is None else self.expansion(texts)
        self.temperature = float(deviations.get("temperature", "0.07"))

    @property
    def beside(self) -> Mapping[str, Tensor]:
        """See TowerTraining: pole and factor, by which the texts of any other classes are expanded."""
        return {} if self.expansion is None else {"pole": self.expansion.pole, "factor": self.expansion.factor}

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        images, labels, tower = batch["images"], batch["labels"], self.student.encode_image
        objective = self.deviations.get("objective", "smooth")

        if objective == "trades":
            clean = self.cosines(tower(images))
            constant = clean.detach()
            found = worst_images(
                lambda x: divergence(constant / self.temperature, self.cosines(tower(x)) / self.temperature),
                images, batch.keys, phase.budget,
            )  # fmt: skip
            return {
                "alignment": alignment(clean, labels, self.temperature),
                "divergence": divergence(clean / self.temperature, self.cosines(tower(found)) / self.temperature),
            }
        found = worst_images(
            lambda x: alignment(self.cosines(tower(x)), labels, self.temperature), images, batch.keys, phase.budget
        )
        features = tower(found)
        terms = {"alignment": alignment(self.cosines(features), labels, self.temperature)}
        if objective == "smooth":
            terms["smoothness"] = SMOOTHNESS_WEIGHT * smoothness(tower(images), features)
        return terms

    def cosines(self, features: Tensor) -> Tensor:
        """Image features [B, D] -> cosines with the anchors [B, K]."""
        return F.normalize(features, dim=-1) @ self.anchors.T


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    return train_tower(job, LAATTraining)
