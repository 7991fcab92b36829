"""TGA-ZSR (Yu et al., NeurIPS 2024, arXiv 2410.21802): an image tower tuned so that it looks where clean CLIP looks.

The attention map is in `attention.py`, the losses in `losses.py`, training in `train.py`. At inference the method is
zero-shot classification with the tuned tower.
"""

from ..tuned import TunedDefence


class TGAZSR(TunedDefence):
    """See TunedDefence."""
