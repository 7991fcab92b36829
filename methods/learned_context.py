"""Text context that is learned once, for all pictures: `[V1]...[VM] name.` (CoOp, Zhou et al. 2022; APT, AdvPT)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import UnavailableError
from vlm_gauntlet.fixtures.learned_prompts import free_context_features, word_vectors
from vlm_gauntlet.fixtures.prompts import PromptSet

SPREAD = 0.02  # standard deviation of the initial vectors
CONTEXT, NAMES = "context", "class_names"  # as a checkpoint names them


@dataclass(frozen=True)
class LearnedContext:
    """Vectors in place of words.

    Args:
        vectors: [M, W] for all classes, or [K, M, W], one for each of `class_names`.
        class_names: that it was learned on.
        middle: the class's name stands after half of the vectors.
    """

    vectors: Tensor
    class_names: tuple[str, ...]
    middle: bool = False

    @classmethod
    def untrained(
        cls, backbone: Backbone, count: int, class_names: Sequence[str], *, each: bool, middle: bool, seed: int
    ) -> "LearnedContext":
        """N(0, 0.02) vectors; `each`: for each class its own."""
        shape = (len(class_names),) * each + (count, word_vectors(backbone).shape[1])
        vectors = SPREAD * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        return cls(vectors.to(backbone.device), tuple(class_names), middle)

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], *, middle: bool) -> "LearnedContext":
        """Undoes `tensors`."""
        return cls(tensors[CONTEXT], names_of(tensors[NAMES]), middle)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """As a checkpoint holds them; the names as bytes."""
        return {CONTEXT: self.vectors, NAMES: names_in(self.class_names)}

    def with_vectors(self, vectors: Tensor) -> "LearnedContext":
        """Other vectors at the same places."""
        return replace(self, vectors=vectors)

    def class_weights(self, backbone: Backbone, prompts: PromptSet) -> Tensor:
        """Unit class weights [K, D] of the classes asked for, whose own sentences are not read.

        Raises:
            UnavailableError: each class has a context of its own, and one of these classes was not trained on.
        """
        vectors = self.vectors
        if vectors.dim() == 3:
            vectors = vectors[of_classes(prompts.class_names, self.class_names, "a context")]
        return free_context_features(backbone, prompts, vectors, middle=self.middle)


def names_in(class_names: Sequence[str]) -> Tensor:
    """Names as bytes, for a file of tensors."""
    return torch.tensor(list("\n".join(class_names).encode()), dtype=torch.uint8)


def names_of(letters: Tensor) -> tuple[str, ...]:
    """Undoes `names_in`."""
    return tuple(bytes(letters.tolist()).decode().split("\n"))


def of_classes(wanted: Sequence[str], trained: Sequence[str], what: str) -> list[int]:
    """Places of some classes among those that each have something of their own.

    Raises:
        UnavailableError: a class that has none.
    """
    if missing := [name for name in wanted if name not in trained]:
        raise UnavailableError(
            f"{what} for {', '.join(map(repr, missing[:3]))}{', ...' if missing[3:] else ''}",
            expected=f"some of the {len(trained)} classes that have one: {', '.join(trained[:5])}, ...",
            where="a method that learns one for each class answers these classes only",
            fix="train it on a set with these classes, or take what is learned for all classes together",
        )  # fmt: skip
    return [trained.index(name) for name in wanted]


def cosine_logits(backbone: Backbone, features: Tensor, weights: Tensor) -> Tensor:
    """Features [B, D] of any length and unit class weights [K, D] -> logits [B, K]."""
    return backbone.logit_scale * F.normalize(features.float(), dim=-1) @ weights.T
