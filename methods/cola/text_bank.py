"""The text side of COLA: a bank of description embeddings, and the subspace that they span."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vlm_gauntlet.fixtures.backbone import Backbone

AT_ONCE = 1024  # sentences in one pass of the text encoder
Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class TextBank:
    """Unit embeddings of each class's sentences.

    Args:
        features: [K, M, D]; shorter classes are padded with zeros.
        present: [K, M] bool, False on padding.
        means: [K, D] of unit length.
        directions: [R, D] right singular vectors of the bank, the most important first; R is its numerical rank.
    """

    features: Tensor
    present: Tensor
    means: Tensor
    directions: Tensor

    @classmethod
    def encode(cls, backbone: Backbone, groups: Groups) -> "TextBank":
        """Reads every sentence once."""
        sentences = [sentence for group in groups for sentence in group]
        with torch.no_grad():
            parts = [backbone.encode_text(sentences[i : i + AT_ONCE]) for i in range(0, len(sentences), AT_ONCE)]
            flat = F.normalize(torch.cat(parts).float(), dim=-1)
            ragged = torch.split(flat, [len(group) for group in groups])
            _, sizes, directions = torch.linalg.svd(flat, full_matrices=False)
        rank = int((sizes > sizes[0] * max(flat.shape) * torch.finfo(flat.dtype).eps).sum())
        features = pad_sequence(list(ragged), batch_first=True)
        means = F.normalize(torch.stack([group.mean(0) for group in ragged]), dim=-1)
        return cls(features, features.any(-1), means, directions[:rank])


# Beside the backbone, not in a defence: pure bookkeeping, as the backbone's own cache of class weights.
_banks: WeakKeyDictionary[Backbone, dict[tuple[Groups, torch.device], TextBank]] = WeakKeyDictionary()


def text_bank(backbone: Backbone, groups: Groups) -> TextBank:
    """The bank of these sentences, encoded once for each backbone and device."""
    known, key = _banks.setdefault(backbone, {}), (groups, backbone.device)
    if key not in known:
        known[key] = TextBank.encode(backbone, groups)
    return known[key]
