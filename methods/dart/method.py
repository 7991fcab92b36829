"""DART (Huang et al., IJCV 2026, arXiv 2511.11009): robust on a domain whose pictures have no labels.

First any unsupervised domain adaptation; then the adapted model, frozen, teaches its copy what attacked pictures of
the target show, so that transfer and robustness are not learned at once (which the paper finds to fail). Losses:
`losses.py`; training: `train.py`. At inference it is zero-shot classification with the tuned tower.
"""

from ..tuned import TunedDefence


class DART(TunedDefence):
    """See TunedDefence."""
