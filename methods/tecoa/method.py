"""TeCoA (Mao et al., ICLR 2023, arXiv 2212.07016): an image tower fine-tuned on adversarial images.

The loss is in `losses.py`, training in `train.py`. At inference the method is zero-shot classification with the tuned
tower; the switch `mix` is the paper's interpolation of weights.
"""

from ..tuned import TunedDefence


class TeCoA(TunedDefence):
    """See TunedDefence."""
