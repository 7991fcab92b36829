"""Retrieval as data: cell, outcome, the batch of a run in flight, and the folder that keeps them."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.protocols import LARGEST_EPS, ExactFraction
from vlm_gauntlet.fixtures.records import MOST_SAMPLES, Name, Provenance, Seed

from .late_folder import LateBatch, LateFolder
from .recall import Ranks

FOLDER = "retrieval"  # inside a folder of outcomes
Features = tuple[tuple[float, ...], ...]


def word_swap(source: Literal["characters", "wordnet", "masked-lm"], words: int) -> WordSwap:
    """The attack on captions that `gauntlet retrieval --source ... --words ...` asks for."""
    return WordSwap(source=source, index_shift="corrected" if source == "masked-lm" else "none", budget=words)


class RetrievalCell(BaseModel):
    """One evaluation, complete. Its key is a digest of everything that may change the result."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    method: Name
    method_digest: str
    backbone: Name
    backbone_digest: str
    dataset: Name
    dataset_digest: str
    attack: Name = Field(description="sep, co-attack, sga or dra")
    eps: ExactFraction = Field(ge=0, le=LARGEST_EPS, description="L-inf radius in [0,1] at the backbone's resolution")
    text: WordSwap
    text_source_digest: str = Field(description="digest of what the attack on text takes its words from")
    seed: Seed
    limit: int = Field(
        ge=1, le=MOST_SAMPLES,
        description="n images with all captions, the first of a fixed permutation of the set's ids",
    )  # fmt: skip
    code_digest: str

    @property
    def key(self) -> str:
        """Digest of every field."""
        return sha256(self.model_dump_json().encode())[:32]

    @property
    def id(self) -> str:
        """What people read."""
        return f"{self.method}-{self.backbone}-{self.dataset}-{self.attack}"


class RetrievalOutcome(BaseModel):
    """What an evaluation gave; all metrics follow from the ranks."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    key: str
    cell: RetrievalCell
    image_to_text: Ranks
    text_to_image: Ranks
    captions_changed: int = Field(ge=0)
    provenance: Provenance

    @model_validator(mode="after")
    def _consistent(self) -> "RetrievalOutcome":
        if self.key != self.cell.key:
            raise ValueError(f"key {self.key} is not the digest of the cell, {self.cell.key}")
        if not self.captions_changed <= self.text_to_image.n >= self.image_to_text.n:
            raise ValueError("each image has a caption, and no more captions changed than there are")
        if self.image_to_text.n > self.cell.limit:
            raise ValueError(f"{self.image_to_text.n} images are more than the limit, {self.cell.limit}")
        return self

    @property
    def bits_digest(self) -> str:
        """Digest of the ranks alone: equal for equal results, whatever the clock says."""
        ranks = (self.image_to_text.model_dump_json(), self.text_to_image.model_dump_json(), self.captions_changed)
        return sha256(repr(ranks).encode())


class RetrievalBatch(LateBatch):
    """What one batch gave: the unit that a kill can cost. Floats survive JSON to the last bit, NaN included."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    ids: tuple[str, ...]
    clean: Features = Field(description="unit features of the images")
    attacked: Features = Field(description="of the attacked images")
    captions: tuple[str, ...] = Field(description="after the attack, image by image")
    changed: int = Field(description="captions in which a word changed")
    files: dict[str, str] = Field(default={}, description="SHA-256 of what a tower from outside read: see Provenance")


class RetrievalJournal(LateFolder[RetrievalOutcome, RetrievalBatch]):
    """The retrieval outcomes of a folder of outcomes."""

    record, batch, name, schema = RetrievalOutcome, RetrievalBatch, "a retrieval outcome", "gauntlet schema retrieval"

    def __init__(self, outcomes: Path) -> None:
        super().__init__(outcomes / FOLDER)
