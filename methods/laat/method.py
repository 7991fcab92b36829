"""LAAT (Li et al., CVPR 2024, arXiv 2301.13096): an image tower trained adversarially towards expanded text anchors.

The anchors are the class texts a = cos(p) m + sin(p) u, with m the pole of the training classes; expanded they are
a' = cos(k p) m + sin(k p) u (`anchors.py`). The losses are in `losses.py`, training in `train.py`. At inference the
texts of any classes are expanded by the m and k of the training, and an image belongs to the nearest of them.
"""

from collections.abc import Mapping

from torch import Tensor

from ..tuned import TunedDefence
from .anchors import Expansion


class LAAT(TunedDefence):
    """See TunedDefence."""

    def text_map(self, beside: Mapping[str, Tensor]) -> Expansion | None:
        """See TunedDefence: the expansion fitted in training; none under the deviation `anchors=raw`."""
        return Expansion(beside["pole"], beside["factor"]) if beside else None
