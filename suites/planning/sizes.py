"""How many samples and classes a test set has, as far as that is written down or lies here."""

from dataclasses import dataclass
from functools import cache

from vlm_gauntlet.fixtures.datasets import datasets
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.natural_sets import natural_sets

MANY = 1000  # classes of a set of which nothing is known: enough for nine targets
SURELY = 1000  # samples that a test set of unknown size is taken to have


@dataclass(frozen=True)
class Size:
    """Of a test split.

    Args:
        samples: None where nobody wrote it down and the set is not here.
        classes: `MANY` where nothing is known.
    """

    samples: int | None
    classes: int

    def taken(self, limit: int) -> int | None:
        """Samples that a limit takes; None where it takes all and nobody knows how many."""
        if self.samples is None:
            return limit if limit < SURELY else None
        return min(limit, self.samples)


@cache
def size_of(name: str) -> Size:
    """The size of a data set: of the files that are here, else what is pinned, else unknown."""
    here = datasets().get(name)
    if here is not None:
        try:
            return Size(sum(len(shard.entries) for shard in here.contents), len(here.class_names))
        except GauntletError:  # the run says what is wrong with it
            pass
    return pinned_size(name)


@cache
def pinned_size(name: str) -> Size:
    """The size that is written down with the code, whatever lies here."""
    known = natural_sets().get(name)
    return Size(known.samples, known.classes or MANY) if known else Size(None, MANY)
