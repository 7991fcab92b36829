"""What defences answer to clean images, asked once for all cells of a run that ask the same.

Each protocol compares its attacked images with the same clean ones. A witness's answer depends on nothing but what is
in the key here, for a defence of the house; one from outside is asked in each cell again, since it may remember.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from vlm_gauntlet.fixtures.datasets import Batch
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.records import Cell

from .batch import Asked
from .scoring import Answers

MOST = 1024  # batches; of 128 samples and 1,000 classes half a MiB each

Key = tuple[object, ...]


@dataclass(frozen=True)
class CleanAnswers:
    """The answers of a run so far; hand one to all its cells."""

    kept: dict[Key, Answers] = field(default_factory=dict)

    def once(self, cell: Cell, asked: Asked, batch: Batch, ask: Callable[[], Answers]) -> Answers:
        """The answer to the clean images of a batch: that of an earlier cell, if one has asked the same."""
        key = key_of_question(cell, asked, batch)
        if key not in self.kept:
            if len(self.kept) == MOST:
                del self.kept[next(iter(self.kept))]
            self.kept[key] = ask()
        return self.kept[key]


def key_of_question(cell: Cell, asked: Asked, batch: Batch) -> Key:
    """All that an answer depends on: the built defence and its code, the samples in their order, words and draws."""
    pictures = sha256(batch.images.contiguous().numpy().tobytes())
    defence = (cell.method, cell.method_digest, cell.code_digest, cell.backbone, cell.backbone_digest)
    return (*defence, batch.ids, pictures, asked.prompts, asked.seed, asked.draws, asked.coupled, asked.device)
