"""TGA-ZSR's training (Yu et al. 2024, section 3): TeCoA's, plus two distances of attention maps to the original model.

L = CE(x_adv) + alpha L_AR(x_adv) + beta L_AMC(x). The attack maximises the cross-entropy alone.
"""

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import TowerTraining, train_tower

from ..tecoa.losses import text_guided
from .attention import MinMax, NormAxis, attention_map, encode_with_tokens
from .losses import Distance, map_distance

ALPHA = 0.08  # of the refinement; the constraint's weight is the switch `beta`


class TGATraining(TowerTraining):
    """The whole image tower; the model that it starts from says where to look."""

    terms = ("adversarial", "refinement", "constraint")

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""
        images, labels = batch["images"], batch["labels"]
        texts = self.base.text_features(self.prompts)[labels]
        kind = cast("Distance", self.deviations.get("distance", "l2"))
        used, beta = self.deviations.get("terms", "all"), float(self.deviations.get("beta", "0.05"))

        def objective(candidates: Tensor) -> Tensor:
            return text_guided(self.student(candidates, self.prompts), labels)

        found = worst_images(objective, images, batch.keys, phase.budget)
        features, tokens = encode_with_tokens(self.student, found)
        terms = {"adversarial": text_guided(self.student.classify(features, self.prompts), labels)}
        if used != "cross-entropy":
            with torch.no_grad():
                target = self._map(encode_with_tokens(self.base, images)[1], texts)
            terms["refinement"] = ALPHA * map_distance(self._map(tokens, texts), target, kind)
        if used == "all":
            looked = self._map(encode_with_tokens(self.student, images)[1], texts)
            terms["constraint"] = beta * map_distance(looked, target, kind)
        return terms

    def _map(self, tokens: Tensor, texts: Tensor) -> Tensor:
        """Equation 5 as the switches have it."""
        axis = cast("NormAxis", self.deviations.get("norm_axis", "embedding"))
        return attention_map(
            tokens, texts, norm_axis=axis, minmax=cast("MinMax", self.deviations.get("minmax", "after-resize"))
        )


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    return train_tower(job, TGATraining)
