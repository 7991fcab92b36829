"""MMCoA (Zhou et al., arXiv 2404.19287): both towers tuned, on attacked images beside clean texts and the reverse.

The loss is in `losses.py`, training in `train.py`. At inference the method is zero-shot classification with both tuned
towers: the class texts are read by the tuned one.
"""

from ..tuned import TunedDefence


class MMCoA(TunedDefence):
    """See TunedDefence; the checkpoint holds the text tower and the logit scale too."""
