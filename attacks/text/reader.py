"""What a text attack sees of a model: how sentences are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol as Interface

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone


class Reader(Interface):
    """The text side of a victim."""

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Sentences -> features [N, D] of unit length, float64."""

    def fits(self, sentence: str) -> bool:
        """Whether the tokenizer takes in the whole sentence."""


@dataclass(frozen=True)
class TextTower:
    """A backbone's text tower as a reader."""

    backbone: Backbone

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """See Reader. float64, because distances between near sentences are as small as float32's rounding errors."""
        with torch.no_grad():
            return F.normalize(self.backbone.encode_text(sentences).double(), dim=-1)

    def fits(self, sentence: str) -> bool:
        """See Reader. The tokenizer cuts in silence, so that a row of tokens without padding may have lost some."""
        return bool(self.backbone.tokenize([sentence])[0, -1] == 0)
