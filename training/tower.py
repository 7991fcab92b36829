"""Fine-tuning of an image tower: what TeCoA and its descendants share. Each adds a loss."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet

from .checkpoint import packed_difference
from .job import TrainingJob
from .recipe import Phase
from .samples import Batch
from .trainer import Training


class TowerTraining(Training):
    """A copy of the image tower is trained, all of it; batch-norm statistics stay frozen, and so does the text tower.

    Args:
        base: where it starts from; never changed.
        prompts: the classes.
        deviations: of the method, those that were chosen.

    Attributes:
        student: the model whose tower is trained.
    """

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        self.base, self.prompts, self.deviations = base, prompts, deviations
        self.start = base.digest
        self.student = base.tuned({})
        named = self.student.clip.visual.named_parameters()
        self._weights = {name: p for name, p in named if p.is_floating_point()}

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return self._weights

    @abstractmethod
    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training; the batch has `images` [B, 3, S, S] and `labels` [B]."""


def train_tower(job: TrainingJob, make: Callable[[Backbone, PromptSet, Mapping[str, str]], TowerTraining]) -> Path:
    """Fine-tunes the image tower of a job's backbone; returns the checkpoint's path."""
    training = make(job.base, job.dataset.prompts, job.deviations)
    job.fit(training, job.samples())
    return job.finish(packed_difference(job.base.clip.visual.state_dict(), training.weights))
