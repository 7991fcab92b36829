"""TeCoA's training (Mao et al. 2023, section 3.2): PGD on the text-guided loss, then a step on the images found."""

from pathlib import Path

from torch import Tensor

from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.tower import TowerTraining, train_tower

from .losses import text_guided


class TeCoATraining(TowerTraining):
    """The whole image tower, on adversarial images alone.

    The deviation `attack_gradients=accumulated`: `backward()` inside the attack also adds to the step's gradients, as
    the official loop would without its loss scaler.
    """

    terms = ("adversarial",)

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""

        def objective(images: Tensor) -> Tensor:
            return text_guided(self.student(images, self.prompts), batch["labels"])

        accumulated = self.deviations.get("attack_gradients") == "accumulated"
        found = worst_images(
            objective, batch["images"], batch.keys, phase.budget, accumulate=batch.share if accumulated else None
        )
        return {"adversarial": objective(found)}


def train(job: TrainingJob) -> Path:
    """Fine-tunes the image tower; returns the checkpoint's path."""
    return train_tower(job, TeCoATraining)
