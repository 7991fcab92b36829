"""Retrieval by the numbers: ranks, R@k, and the two things that papers call attack success rate."""

from collections.abc import Mapping

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from vlm_gauntlet.fixtures.errors import GauntletError

KS = (1, 5, 10)
DEFINITIONS: Mapping[str, str] = {
    "R@k": "share of queries with a right answer among the first k; a wrong answer that ties with it comes first",
    "image to text": "queries are images; right is any of the image's own captions",
    "text to image": "queries are captions; right is the caption's one image",
    "drop": "attack success as Co-Attack counts it: clean R@k minus attacked R@k, in points",
    "lost": "attack success as SGA counts it: of the queries right within k before, the share wrong after",
}


def ranks(similarity: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Number of wrong answers at or above the best right one, for each query.

    Args:
        similarity: [N, M], of N images with M captions.
        owner: [M], the image of each caption; each image owns at least one.

    Returns:
        image to text [N], text to image [M]; 0 is best.

    Raises:
        GauntletError: a similarity is not finite, or an image has no caption.
    """
    images, captions = similarity.shape
    own = owner[None] == torch.arange(images, device=owner.device)[:, None]
    if not torch.isfinite(similarity).all() or not own.any(1).all():
        raise GauntletError(
            f"similarities finite: {bool(torch.isfinite(similarity).all())}, images without a caption: "
            f"{int((~own.any(1)).sum())}",
            expected="finite similarities, a caption for each image", where="image-text retrieval",
            fix="look at the features; a NaN would count as a hit",
        )  # fmt: skip
    best = similarity.masked_fill(~own, -torch.inf).amax(1)
    right = similarity[owner, torch.arange(captions, device=owner.device)]
    to_text = ((similarity >= best[:, None]) & ~own).sum(1)
    to_image = ((similarity >= right[None]) & ~own).sum(0)
    return to_text, to_image


class Ranks(BaseModel):
    """One direction of retrieval: the rank of each query before and after the attack, 0 is best."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean: tuple[int, ...] = Field(min_length=1)
    attacked: tuple[int, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> "Ranks":
        if len(self.clean) != len(self.attacked) or min(*self.clean, *self.attacked) < 0:
            raise ValueError("clean and attacked have one rank a query, from 0")
        return self

    @property
    def n(self) -> int:
        """Number of queries."""
        return len(self.clean)

    def clean_recall(self, k: int) -> float:
        """R@k before the attack, in [0, 1]."""
        return sum(rank < k for rank in self.clean) / self.n

    def attacked_recall(self, k: int) -> float:
        """R@k of attacked images among attacked captions, in [0, 1]."""
        return sum(rank < k for rank in self.attacked) / self.n

    def drop(self, k: int) -> float:
        """Attack success rate as Co-Attack defines it: the fall of R@k; negative where the attack helped."""
        return self.clean_recall(k) - self.attacked_recall(k)

    def lost(self, k: int) -> float | None:
        """Attack success rate as SGA defines it: of the queries right before, the share wrong after; None of none."""
        after = [rank for before, rank in zip(self.clean, self.attacked, strict=True) if before < k]
        return sum(rank >= k for rank in after) / len(after) if after else None
