"""What a masked language model would write in a word's place, the sentence being left unmasked.

Source: BERT-Attack (Li et al. 2020, arXiv:2004.09984), section 3.2. A word of several pieces gets combinations of the
best tokens of each piece, ranked by the model's perplexity on the combination alone.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F

from vlm_gauntlet.fixtures.errors import UnavailableError

BERT = "bert-base-uncased"
THRESHOLD = 0.3  # on raw logits, as Co-Attack and its descendants set it; it prunes almost nothing
PER_PIECE, PIECES, COMBINATIONS = 4, 12, 24  # best tokens of a piece, pieces looked at, combinations kept


class MaskedLM:
    """Candidates from a BERT-like model.

    Args:
        model: `transformers.BertForMaskedLM` or alike, in eval mode.
        tokenizer: its tokenizer.
        index_shift: `corrected` reads the predictions at the word itself; `as_coded` those at the token before, because
            the code of Co-Attack, SGA and MMCoA counts pieces from 0 and leaves [CLS] in the model's output.
        top: best tokens that become candidates of a one-piece word.
        max_length: pieces that the model reads, [CLS] and [SEP] included; words beyond get no candidates.
        written: `words` leaves out what is not one word; `anything` leaves out lone pieces alone, as the code does.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, index_shift: str, top: int, max_length: int, written: str = "words"
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.shift = 1 if index_shift == "corrected" else 0
        self.top, self.max_length, self.written = top, max_length, written

    @classmethod
    def load(cls, *, index_shift: str, top: int, max_length: int, written: str = "words") -> "MaskedLM":
        """The published attack's model, bert-base-uncased, from the local cache alone.

        Raises:
            UnavailableError: transformers is not installed, or the weights are not in its cache.
        """
        try:
            from transformers import BertForMaskedLM, BertTokenizer

            model = BertForMaskedLM.from_pretrained(BERT, local_files_only=True, use_safetensors=True)
            tokenizer = BertTokenizer.from_pretrained(BERT, local_files_only=True)
        except (ImportError, OSError) as error:
            raise UnavailableError(
                f"no {BERT}: {str(error).splitlines()[0]}", expected="transformers, and the weights in its cache",
                where="the protocol's text source, masked-lm",
                fix=f"pip install 'vlm-gauntlet[text]', then once with network: hf download {BERT}",
            ) from error  # fmt: skip
        model.requires_grad_(False).train(False)
        return cls(model, tokenizer, index_shift=index_shift, top=top, max_length=max_length, written=written)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights and vocabulary."""
        found = hashlib.sha256("\n".join(sorted(self.tokenizer.get_vocab())).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            found.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    def __call__(self, words: Sequence[str], position: int) -> list[str]:
        """See Source."""
        pieces = [self.tokenizer.tokenize(word.lower()) for word in words]
        start = sum(map(len, pieces[:position]))
        end = start + len(pieces[position])
        if start == end or end > self.max_length - 2:
            return []
        ids = self.tokenizer.convert_tokens_to_ids([piece for word in pieces for piece in word])
        special = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        logits = self._logits([[special[0], *ids[: self.max_length - 2], special[1]]])[0]
        best = logits[start + self.shift : end + self.shift].topk(self.top)
        if end - start > 1:
            found = self._combined(best.indices[:PIECES, :PER_PIECE].tolist())
        else:
            found = [
                [i] for i, v in zip(best.indices[0].tolist(), best.values[0].tolist(), strict=True) if v >= THRESHOLD
            ]
        spoken = (self.tokenizer.convert_ids_to_tokens(candidate) for candidate in found)
        spelt = dict.fromkeys(self.tokenizer.convert_tokens_to_string(tokens) for tokens in spoken)
        if self.written == "anything":
            return [text for text in spelt if "##" not in text and text != words[position]]
        # A lone word piece is no word; a candidate of several words is not one word in place of one.
        return [word for word in spelt if word.isalnum() and word != words[position].lower()]

    def _combined(self, columns: list[list[int]]) -> list[list[int]]:
        """Combinations of the tokens of each piece, the least perplexing first."""
        made = [list(ids) for _, ids in zip(range(COMBINATIONS), product(*columns), strict=False)]
        logits = self._logits(made)
        surprise = F.cross_entropy(logits.transpose(1, 2), torch.tensor(made), reduction="none").mean(1)
        return [made[i] for i in surprise.argsort(stable=True).tolist()]

    def _logits(self, ids: list[list[int]]) -> torch.Tensor:
        """Token ids [N, L] -> logits [N, L, vocabulary]."""
        with torch.no_grad():
            logits: torch.Tensor = self.model(torch.tensor(ids, device=self.model.device)).logits.float().cpu()
        return logits
