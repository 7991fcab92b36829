"""Training of the visual prompt (Mao et al. 2023, section 3.3): PGD through the prompt, then a step on the prompt."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.adversary import worst_images
from vlm_gauntlet.training.checkpoint import packed_tensors
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import Training

from .losses import text_guided
from .method import Prompt


class VisualPromptTraining(Training):
    """The prompt of a frozen backbone, on adversarial images alone.

    Args:
        backbone: frozen.
        start: where the prompt starts.
        prompts: the classes.
    """

    terms = ("adversarial",)

    def __init__(self, backbone: Backbone, start: Prompt, prompts: PromptSet) -> None:
        self.backbone, self.prompts, self.start = backbone, prompts, backbone.digest
        self.learned = Prompt(**{name: tensor.clone() for name, tensor in start.tensors.items()})

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return self.learned.tensors

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training."""

        def objective(images: Tensor) -> Tensor:
            return text_guided(self.learned.logits(self.backbone, images, self.prompts), batch["labels"])

        return {"adversarial": objective(worst_images(objective, batch["images"], batch.keys, phase.budget))}


def train(job: TrainingJob) -> Path:
    """Learns the prompt; returns the checkpoint's path."""
    start = Prompt.untrained(job.base, int(job.switches["tokens"]), job.seed)
    training = VisualPromptTraining(job.base, start, job.dataset.prompts)
    job.fit(training, job.samples())
    return job.finish(packed_tensors(training.learned.tensors, int8=False))
