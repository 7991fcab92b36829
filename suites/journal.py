"""The folder of outcomes of the matrix: its cells, and the batches of the cells in flight.

What a defence from outside read while it ran is not in its cell's key. Where such a file has changed since, the cell is
not finished: its outcome goes to the folder `replaced` when the new one is there.
"""

import os

from pydantic import BaseModel, ConfigDict

from vlm_gauntlet.fixtures.records import Cost, Outcome, Sample
from vlm_gauntlet.methods.late_files import moved

from .record_folder import RecordFolder

REPLACED = "replaced"


class BatchResult(BaseModel):
    """What one batch of a cell gave: the unit that a kill can cost. Floats survive JSON, NaN and infinity included."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    samples: tuple[Sample, ...]
    telemetry: dict[str, tuple[float, ...]]
    defence_cost: Cost
    attack_cost: Cost
    notes: tuple[str, ...]
    files: dict[str, str] = {}


class Journal(RecordFolder[Outcome, BatchResult]):
    """Outcomes in a folder."""

    record, batch, name, schema = Outcome, BatchResult, "an outcome", "gauntlet schema"

    def find(self, key: str) -> Outcome | None:
        """The finished outcome of a key, if there is one and all files that it was made with are what they were."""
        outcome = super().find(key)
        return None if outcome is None or moved(outcome.provenance.files) else outcome

    def batches(self, key: str) -> list[BatchResult]:
        """See RecordFolder; none where a file that one of them was made with has changed."""
        found = super().batches(key)
        if any(moved(result.files) for result in found):
            with self._writing(self.partial(key)):
                self.partial(key).unlink()
            return []
        return found

    def write(self, outcome: Outcome) -> None:
        """See RecordFolder; an outcome that was made with other files is put away first."""
        path = self.folder / f"{outcome.key}.json"
        if path.is_file() and moved((old := self.read(path)).provenance.files):
            place = self.folder / REPLACED / f"{old.key}.{old.provenance.made:%Y%m%dT%H%M%S}.json"
            with self._writing(place):
                place.parent.mkdir(exist_ok=True)
                os.replace(path, place)
        super().write(outcome)
