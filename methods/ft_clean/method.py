"""FT-Clean: the control in tables of adversarial fine-tuning, since fine-tuning alone costs zero-shot accuracy too.

The loss is in `losses.py`, training in `train.py`. At inference: zero-shot classification with the tuned tower.
"""

from ..tuned import TunedDefence


class FTClean(TunedDefence):
    """See TunedDefence."""
