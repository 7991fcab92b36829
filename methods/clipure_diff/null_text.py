"""What the official code tells the prior in place of a text: 80 templates around an empty class name.

Source: CLIPure_Diff.py:105-169 at b4cc6d1.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone


@dataclass(frozen=True)
class NullText:
    """The mean over the templates.

    Args:
        embedding: [D], of unit embeddings, and not made one again.
        words: [L, D], of word encodings: at each token of a template's own, the start's and the end's included, the
            template's pooled embedding as the tower gives it, NOT of unit length; behind it zero.
    """

    embedding: Tensor
    words: Tensor


@lru_cache(maxsize=4)
def null_text(backbone: Backbone) -> NullText:
    """The null text of a backbone; made once for it."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES  # slow to import

    sentences = [template("") for template in OPENAI_IMAGENET_TEMPLATES]
    # Not in a caller's autocast: half precision would outlive it in the cache.
    with torch.no_grad(), torch.autocast(backbone.device.type, enabled=False):
        pooled = backbone.encode_text(sentences)
        own = backbone.tokenize(sentences).to(pooled.device) != 0
        return NullText(F.normalize(pooled, dim=-1).mean(0), (pooled[:, None] * own[..., None]).mean(0))
