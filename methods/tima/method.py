"""TIMA (Ma et al., AAAI 2026; first version arXiv 2405.17678): image tower and class texts, each aware of the other.

Texts are pushed apart (minimum hyperspherical energy) while the predictions of clean images stay what they were; the
tower is trained on adversarial images with a margin that is larger between similar classes. The losses are in
`losses.py`, training in `train.py`. At inference it is zero-shot classification with the tuned tower and texts.
"""

from collections.abc import Mapping

from torch import Tensor

from ..tuned import TunedDefence
from .text_map import TextMap


class TIMA(TunedDefence):
    """See TunedDefence."""

    def text_map(self, beside: Mapping[str, Tensor]) -> TextMap | None:
        """See TunedDefence: the map of class texts; none where a table of the training classes was tuned."""
        return TextMap(beside["shift"]) if beside else None
