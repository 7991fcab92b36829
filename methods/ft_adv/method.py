"""FT-Adv.: what adversarial pictures alone give, with the contrastive loss of clean fine-tuning.

Training is in `train.py`, with the loss of `ft_clean/losses.py`. At inference: zero-shot classification with the tuned
tower.
"""

from ..tuned import TunedDefence


class FTAdv(TunedDefence):
    """See TunedDefence."""
