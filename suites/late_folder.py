"""A folder of records of runs whose defence may have read files that no key holds.

What a defence from outside read while it ran is not in its cell's key. Where such a file has changed since, the cell is
not finished: its record goes to the folder `replaced` when the new one is there.
"""

import os
from collections.abc import Mapping
from typing import Protocol, TypeVar

from pydantic import BaseModel

from vlm_gauntlet.fixtures.records import Provenance
from vlm_gauntlet.methods.late_files import moved

from .record_folder import Record, RecordFolder

REPLACED = "replaced"


class LateRecord(Record, Protocol):
    """A record that says with which files it was made."""

    @property
    def provenance(self) -> Provenance:
        """How it came about."""


class LateBatch(BaseModel):
    """A batch that says with which files it was made."""

    files: Mapping[str, str]


R = TypeVar("R", bound=LateRecord)
B = TypeVar("B", bound=LateBatch)


class LateFolder(RecordFolder[R, B]):
    """See RecordFolder; a record or batch counts while all files that it was made with are what they were."""

    def find(self, key: str) -> R | None:
        """The finished record of a key, if there is one and all files that it was made with are what they were."""
        record = super().find(key)
        return None if record is None or moved(record.provenance.files) else record

    def batches(self, key: str) -> list[B]:
        """See RecordFolder; none where a file that one of them was made with has changed."""
        found = super().batches(key)
        if any(moved(result.files) for result in found):
            with self._writing(self.partial(key)):
                self.partial(key).unlink()
            return []
        return found

    def write(self, outcome: R) -> None:
        """See RecordFolder; a record that was made with other files is put away first."""
        path = self.folder / f"{outcome.key}.json"
        if path.is_file() and moved((old := self.read(path)).provenance.files):
            place = self.folder / REPLACED / f"{old.key}.{old.provenance.made:%Y%m%dT%H%M%S}.json"
            with self._writing(place):
                place.parent.mkdir(exist_ok=True)
                os.replace(path, place)
        super().write(outcome)
