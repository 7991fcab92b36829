"""HPT-GPD (Fu et al., arXiv 2601.12865): robustness taken over from another plain CLIP, the proxy.

A plain CLIP withstands images that were made against a different one. So it can teach the target what they show,
without ever having been trained adversarially. Losses: `losses.py`; training: `train.py`; the observation itself,
measured on two models: `proxy_robustness.py`. At inference it is zero-shot classification with the tuned tower.
"""

from ..tuned import TunedDefence


class HPTGPD(TunedDefence):
    """See TunedDefence."""
