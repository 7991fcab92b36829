"""Outcomes read so that equal samples are one object: thousands of outcomes share the ids, labels and bits of a few."""

from pathlib import Path

from vlm_gauntlet.fixtures.records import Outcome, Sample
from vlm_gauntlet.suites.journal import Journal

MOST = 100_000  # samples remembered; beyond them it begins anew
Key = tuple[str, int, int, int, int | None]


class SharingJournal(Journal):
    """A folder of outcomes whose equal samples are one object, with the outcomes that `Journal` reads.

    Args:
        folder: as of a journal.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._samples: dict[Key, Sample] = {}

    def read(self, path: Path) -> Outcome:
        """The outcome of one file, with errors as of a journal."""
        outcome = super().read(path)
        if len(self._samples) > MOST:
            self._samples.clear()
        shared = tuple(
            self._samples.setdefault((s.id, s.label, s.clean, s.attacked, s.fresh), s) for s in outcome.samples
        )
        return outcome.model_copy(update={"samples": shared})
