"""Fine-tuning of an image tower, or of both: what TeCoA and its descendants share. Each adds a loss."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import OUTSIDE, Backbone
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
        text: whether all outside the image tower is trained too.
        student: the model whose tower is trained.
    """

    text: ClassVar[bool] = False

    def __init__(self, base: Backbone, prompts: PromptSet, deviations: Mapping[str, str]) -> None:
        self.base, self.prompts, self.deviations = base, prompts, deviations
        self.start = base.digest
        self.student = base.tuned({}, text=self.text)
        named = self.student.tunable(text=self.text).items()
        self._weights = {name: p for name, p in named if p.is_floating_point()}

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return self._weights

    @property
    def beside(self) -> Mapping[str, Tensor]:
        """What the checkpoint keeps beside the tower, by name; nothing by default."""
        return {}

    @abstractmethod
    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training; the batch has `images` [B, 3, S, S] and `labels` [B]."""


class BothTowersTraining(TowerTraining):
    """A copy of the whole model is trained: image tower, text tower, and the logit scale, which nothing clamps.

    A recipe may give the groups `image`, `text`, `tokens` (the table of word vectors) and `scale` rates of their own.
    """

    text = True

    def groups(self, phase: str) -> Mapping[str, list[str]]:
        """See Training."""
        found: dict[str, list[str]] = {}
        for name in self._weights:
            found.setdefault(_group(name), []).append(name)
        return found

    def texts(self, sentences: Sequence[str]) -> Tensor:
        """Unit features [N, D] of sentences as the text tower stands, differentiable: `student` would cache them."""
        return F.normalize(self.student.encode_text(sentences), dim=-1)


def _group(name: str) -> str:
    if not name.startswith(OUTSIDE):
        return "image"
    return {"token_embedding.weight": "tokens", "logit_scale": "scale", "logit_bias": "scale"}.get(
        name.removeprefix(OUTSIDE).removeprefix("text."), "text"
    )


def train_tower(job: TrainingJob, make: Callable[[Backbone, PromptSet, Mapping[str, str]], TowerTraining]) -> Path:
    """Fine-tunes the tower of a job's backbone, or both; returns the checkpoint's path."""
    training = make(job.base, job.dataset.prompts, job.switches)
    job.fit(training, job.samples())
    start = job.base.tunable(text=training.text)
    # What was trained beside the towers (a head, say) served the training alone, unless the method keeps it.
    towers = {name: tensor for name, tensor in training.weights.items() if name in start}
    return job.finish(packed_difference(start, towers, training.beside, levels=job.recipe.levels))
