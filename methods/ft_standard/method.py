"""FT-standard (the baseline of Zhou et al., arXiv 2404.19287): fine-tuning on clean pictures of the task.

Training is in `train.py`. At inference: zero-shot classification with the tuned tower.
"""

from ..tuned import TunedDefence


class FTStandard(TunedDefence):
    """See TunedDefence."""
