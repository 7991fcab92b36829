"""FARE (Schlarmann et al., ICML 2024, arXiv 2402.12336): an image tower whose attacked embeddings stay where they were.

The loss is in `losses.py`, training in `train.py`. At inference the method is zero-shot classification with the tuned
tower. No label is used, so that whatever stands on the original embedding (another class set, a language model) may
stand on this one.
"""

from ..tuned import TunedDefence


class FARE(TunedDefence):
    """See TunedDefence."""
