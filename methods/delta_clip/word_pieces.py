"""ΔCLIP's tokens: lower-case BERT word pieces as [bos] ... [eos], zeros, and [CLS] last.

The authors use tensorflow_text (Double_Visual_Defense @ 1b577a2). Their rule for a sentence that fills the context
looks at the first of a batch and changes all: the same sentence then has other tokens in other company. Here each
sentence is looked at alone.
"""

import re
import unicodedata
from collections.abc import Sequence

import torch
from torch import Tensor

from vlm_gauntlet.fixtures.errors import GauntletError

LONGEST = 100  # bytes of a word; a longer one is unknown
SPECIAL = ("[bos]", "[eos]", "[CLS]", "[UNK]")
HAN = "\u4e00-\u9fff"
WORD = re.compile(rf"[^\W_{HAN}]+|[^\s]")  # letters and digits together, anything else and each Chinese character alone
ADDED = {"[unused0]": "[bos]", "[unused1]": "[eos]"}  # the names under which a plain BERT vocabulary has them
PADDING = 0


class WordPieces:
    """Sentences -> token ids [N, context].

    Args:
        vocabulary: pieces in the order of their ids; `##` begins one that goes on with a word.
        context: tokens of a sentence, [CLS] included.
        first_row_decides: as the authors' code has it: where the first sentence fills the context, the last token
            before [CLS] becomes [eos] in every row; where it does not, in none.

    Raises:
        GauntletError: the vocabulary lacks a special token.
    """

    def __init__(self, vocabulary: Sequence[str], *, context: int, first_row_decides: bool = False) -> None:
        self.ids = {ADDED.get(piece, piece): number for number, piece in enumerate(vocabulary)}
        self.context, self.first_row_decides = context, first_row_decides
        if missing := [token for token in SPECIAL if token not in self.ids]:
            raise GauntletError(
                f"a vocabulary without {', '.join(missing)}",
                expected="BERT's, where two unused pieces are [bos] and [eos]",
                where="the tokenizer of ΔCLIP",
                fix="take vocab.txt from where the weights are",
            )

    @property
    def highest(self) -> int:
        """The largest id."""
        return len(self.ids) - 1

    def __call__(self, sentences: list[str]) -> Tensor:
        """Sentences -> [N, context]."""
        room = self.context - 1
        whole = [[self.ids["[bos]"], *self.pieces(s), self.ids["[eos]"]][:room] for s in sentences]
        rows = [row + [PADDING] * (room - len(row)) for row in whole]
        for row, ids in zip(rows, whole, strict=True):
            if len(whole[0] if self.first_row_decides else ids) == room:
                row[-1] = self.ids["[eos]"]
        return torch.tensor([[*row, self.ids["[CLS]"]] for row in rows], dtype=torch.long)

    def pieces(self, sentence: str) -> list[int]:
        """The ids of a sentence's word pieces."""
        plain = unicodedata.normalize("NFD", sentence.lower())
        plain = "".join(c for c in plain if unicodedata.category(c) not in ("Mn", "Cc", "Cf") or c.isspace())
        return [piece for word in WORD.findall(plain) for piece in self._of_word(word)]

    def _of_word(self, word: str) -> list[int]:
        """The longest piece that the vocabulary has, then the longest of the rest; [UNK] where one is missing."""
        found: list[int] = []
        start = 0
        while start < len(word):
            ends = range(len(word), start, -1)
            heads = (("##" if start else "") + word[start:end] for end in ends)
            piece = next((head for head in heads if head in self.ids), None)
            if piece is None or len(word.encode()) > LONGEST:
                return [self.ids["[UNK]"]]
            found.append(self.ids[piece])
            start += len(piece) - (2 if start else 0)
        return found
