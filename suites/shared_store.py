"""A place that machines share: each finished outcome is one object there, whole or absent, and the first one stays.

The place is a folder or any location that fsspec knows (`s3://bucket/night`). Everything else stays on the machine that
works: batches in flight, locks, archives. What this gives, and what it does not:

- An object is written by one request, after the outcome lies whole on this machine: what the place acknowledged is
  there, and what it did not is put by the next run of the same command here.
- It is written only if none is there (S3: `If-None-Match`; a folder: a hard link). Of two machines that computed one
  cell, the second compares: equal results are one outcome, others an error that names both.
- Where a server refuses conditions, this looks first and then writes; one that ignores them lets the last of two that
  wrote within the same moment stay. Both are whole, and equal unless the cell is not reproducible.
- Nothing is locked between machines: they may compute a cell twice, and lose only time by it.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError, problems
from vlm_gauntlet.fixtures.files import LARGEST, read_plain, sync_names, write_atomically
from vlm_gauntlet.fixtures.parts import is_there
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.late_files import moved

from .journal import Journal
from .late_folder import REPLACED

NAMED = re.compile(r"[0-9A-Za-z]+\.json")
"""Names of outcomes: no other name of a place becomes one of a file here."""


class Place(Protocol):
    """Where objects lie."""

    def get(self, name: str) -> bytes | None:
        """An object; None where there is none."""

    def put(self, name: str, data: bytes) -> bool:
        """Writes an object, whole or not at all; False where one is there, which stays."""

    def replace(self, name: str, data: bytes) -> None:
        """Writes an object, whole or not at all, whatever was there."""

    def names(self) -> list[str]:
        """Of all objects, sorted."""


@dataclass(frozen=True)
class Disk:
    """A folder, on a disk that machines share."""

    folder: Path

    def get(self, name: str) -> bytes | None:
        """See Place."""
        return read_plain(self.folder / name) if is_there(self.folder / name) else None

    def put(self, name: str, data: bytes) -> bool:
        """See Place."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as aside:
            write_atomically(whole := Path(aside) / path.name, data)
            try:
                os.link(whole, path)  # unlike a rename, it fails where something is
            except FileExistsError:
                return False
        sync_names(path.parent)
        return True

    def replace(self, name: str, data: bytes) -> None:
        """See Place."""
        write_atomically(self.folder / name, data)

    def names(self) -> list[str]:
        """See Place."""
        return sorted(path.name for path in self.folder.glob("*.json"))


@dataclass(frozen=True)
class Objects:
    """What fsspec reaches.

    Args:
        files: a file system of fsspec.
        root: in it.
    """

    files: Any
    root: str

    def get(self, name: str) -> bytes | None:
        """See Place."""
        try:
            data: bytes = self.files.cat_file(f"{self.root}/{name}", start=0, end=LARGEST + 1)
        except FileNotFoundError:
            return None
        if len(data) > LARGEST:
            raise ValueError(f"{name} is larger than any outcome, {LARGEST} bytes")
        return data

    def put(self, name: str, data: bytes) -> bool:
        """See Place."""
        try:
            self.files.pipe_file(f"{self.root}/{name}", data, mode="create")
        except FileExistsError:
            return False
        except NotImplementedError:  # a server that knows no conditions
            if self.get(name) is not None:
                return False
            self.replace(name, data)
        return True

    def replace(self, name: str, data: bytes) -> None:
        """See Place."""
        self.files.pipe_file(f"{self.root}/{name}", data)

    def names(self) -> list[str]:
        """See Place."""
        try:
            return sorted(path.rpartition("/")[2] for path in self.files.ls(self.root, detail=False))
        except FileNotFoundError:  # an object store has no empty folders
            return []


def place_at(location: str) -> Place:
    """The place of a path or URL.

    Raises:
        UnavailableError: no package for that kind of place is installed.
        GauntletError: nobody knows that kind.
    """
    kind, known, path = location.partition("://")
    if not known or kind == "file":
        return Disk(Path(path or location).absolute())
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(location, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise UnavailableError(
            f"{location}: {error}", expected="a package that reads such places", where="--store",
            fix='pip install "vlm-gauntlet[s3]" for s3://, else the package that the message names',
        ) from error  # fmt: skip
    except ValueError as error:
        raise GauntletError(
            f"{location}: {error}", expected="a folder, or a URL that fsspec knows", where="--store",
            fix="such as s3://bucket/folder",
        ) from error  # fmt: skip
    return Objects(files, root)


class SharedJournal(Journal):
    """A folder of outcomes of this machine, whose finished ones also lie in a place that machines share.

    Args:
        folder: of this machine.
        location: of the place.
    """

    def __init__(self, folder: Path, location: str) -> None:
        super().__init__(folder)
        self.location, self.place = location, place_at(location)

    def find(self, key: str) -> Outcome | None:
        """The finished outcome of a key: of this machine, else of the place; what only this one has is put there."""
        found = super().find(key)
        if found is not None:
            return self._put(found)
        theirs = self._get(key)
        if theirs is None or moved(theirs.provenance.files):
            return None
        super().write(theirs)
        return theirs

    def write(self, outcome: Outcome) -> None:
        """See Journal; then it is put into the place.

        Raises:
            GauntletError: the place holds another result of the same cell, or cannot be reached: the outcome lies here.
        """
        super().write(outcome)
        self._put(outcome)

    def fetch(self) -> int:
        """Brings the outcomes of the place here that are not here yet; returns how many.

        Raises:
            GauntletError: one of them is not whole, or has another result than the one here; the others came.
        """
        came, wrong = 0, None
        with self._reaching("read"):
            names = [name for name in self.place.names() if NAMED.fullmatch(name)]
        for name in names:
            key = name.removesuffix(".json")
            try:
                here = super().find(key)
                if (theirs := self._get(key)) is None or here == theirs:
                    continue
                if here is None:
                    super().write(theirs)
                    came += 1
                elif here.bits_digest != theirs.bits_digest:
                    raise self._conflict(key)
            except GauntletError as error:
                wrong = wrong or error
        if wrong is not None:
            raise wrong
        return came

    def _get(self, key: str) -> Outcome | None:
        with self._reaching("read"):
            data = self.place.get(f"{key}.json")
            if data is None:
                return None
            outcome = Outcome.model_validate_json(data, strict=True)
            if outcome.key != key:
                raise ValueError(f"{key}.json holds the outcome {outcome.key}")
            return outcome

    def _put(self, outcome: Outcome) -> Outcome:
        """The outcome, when the place holds its result."""
        name, data = f"{outcome.key}.json", (outcome.model_dump_json(indent=1) + "\n").encode()
        with self._reaching("written"):
            if self.place.put(name, data):
                return outcome
        theirs = self._get(outcome.key)
        if theirs is not None and theirs.bits_digest == outcome.bits_digest:
            return outcome
        if theirs is None or not moved(theirs.provenance.files):
            raise self._conflict(outcome.key)
        # What a defence read has changed since: as in a folder, the old one is put away.
        with self._reaching("written"):
            old = f"{REPLACED}/{theirs.key}.{theirs.provenance.made:%Y%m%dT%H%M%S}.json"
            self.place.put(old, (theirs.model_dump_json(indent=1) + "\n").encode())
            self.place.replace(name, data)
        return outcome

    def _conflict(self, key: str) -> GauntletError:
        return GauntletError(
            f"two outcomes of one key, {key}, with different results", expected="one result a cell",
            where=f"{self.folder / key}.json and {self.location}/{key}.json",
            fix="find out which one is right (gauntlet verify FILE), and move the other away",
        )  # fmt: skip

    @contextmanager
    def _reaching(self, done: str) -> Iterator[None]:
        try:
            yield
        except GauntletError:
            raise
        except Exception as error:  # what reaches over a network raises a dozen types
            raise GauntletError(
                f"the store cannot be {done}: {problems(error)[0][:300]}", expected="a place that answers",
                where=self.location,
                fix="look at its address and credentials (AWS_ENDPOINT_URL, AWS_PROFILE); what is finished lies in "
                f"{self.folder}/, and the same command brings it there",
            ) from error  # fmt: skip


def journal_at(folder: Path, store: str | None) -> Journal:
    """The outcomes of a folder, shared where a place for that is given."""
    return SharedJournal(folder, store) if store else Journal(folder)
