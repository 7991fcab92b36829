"""AdvPT's training (Zhang et al. 2024, section 3): the bank, then cross-entropy between it and the prompted classes."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.training.checkpoint import packed_tensors
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.recipe import Budget, Phase
from vlm_gauntlet.training.samples import Batch, InMemory
from vlm_gauntlet.training.trainer import Training

from ..learned_context import CONTEXT, LearnedContext, cosine_logits
from .bank import bank
from .losses import on_bank

TOKENS = 32  # of context, or half of what the text tower reads where that is less


class BankTraining(Training):
    """The context alone; pictures are not seen any more.

    Args:
        backbone: whose text tower reads the context.
        learned: where the context starts.
        prompts: the classes.
    """

    terms = ("bank",)

    def __init__(self, backbone: Backbone, learned: LearnedContext, prompts: PromptSet) -> None:
        self.backbone, self.prompts, self.start = backbone, prompts, backbone.digest
        self.learned = learned.with_vectors(learned.vectors.clone())

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """See Training."""
        return {CONTEXT: self.learned.vectors}

    def loss(self, batch: Batch, phase: Phase) -> dict[str, Tensor]:
        """See Training; the batch has `features` [B, D] and `labels` [B]."""
        weights = self.learned.class_weights(self.backbone, self.prompts)
        return {"bank": on_bank(cosine_logits(self.backbone, batch["features"], weights), batch["labels"])}


def banked(backbone: Backbone, pictures: InMemory, budget: Budget) -> InMemory:
    """The samples in whose place their embeddings stand; their digest tells the backbone and the attack."""
    features = bank(backbone, pictures.tensors["images"], budget, pictures.seed)
    digest = sha256(f"{pictures.digest} {backbone.digest} {budget.model_dump_json()} {pictures.seed}".encode())
    tensors = {"features": features, "labels": pictures.tensors["labels"]}
    return InMemory(tensors, seed=pictures.seed, digest=digest)


def train(job: TrainingJob) -> Path:
    """Makes the bank and learns the context; returns the checkpoint's path."""
    pictures = job.samples()
    assert isinstance(pictures, InMemory)  # a bank of a stream would not fit either
    start = LearnedContext.untrained(
        job.base,
        min(TOKENS, text_length(job.base) // 2),
        job.dataset.class_names,
        each=False,
        middle=False,
        seed=job.seed,
    )
    training = BankTraining(job.base, start, job.dataset.prompts)
    job.fit(training, banked(job.base, pictures, job.recipe.phases[0].budget))
    return job.finish(packed_tensors(training.learned.tensors, int8=False))


def text_length(backbone: Backbone) -> int:
    """Tokens that the text tower reads, start and end included."""
    return backbone.tokenize(["a"]).shape[1]
