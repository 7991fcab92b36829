"""Outcomes of several folders in one: what shards of a night made on several machines.

Outcomes are the same where their results are; files of one key with other results are an error that names both, before
anything is written. What is written is what lay there, byte for byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import write_atomically, writing

from .archive import FOLDER as ARCHIVE
from .check_records import FOLDER as CHECKS
from .journal import Journal
from .late_folder import REPLACED
from .record_folder import BESIDE, RecordFolder
from .retrieval_records import RetrievalJournal

BESIDES = (f"*{BESIDE}", f"{ARCHIVE}/*.safetensors", f"{ARCHIVE}/*.json", f"{CHECKS}/*.json", f"{REPLACED}/*.json",
           f"retrieval/*{BESIDE}", f"retrieval/{REPLACED}/*.json")  # fmt: skip


@dataclass(frozen=True)
class Merged:
    """What a merge did.

    Args:
        copied: outcomes that came to the folder.
        same: outcomes that were in several folders, with one result.
        kept: other files of which another folder had another version: the first folder's stayed.
        unfinished: partial logs, which stay where they are.
    """

    copied: int
    same: int
    kept: tuple[Path, ...]
    unfinished: tuple[Path, ...]


def merge(folders: Sequence[Path], out: Path) -> Merged:
    """Brings the outcomes of folders into `out`, which may hold some already.

    Raises:
        GauntletError: a folder is not there; a file is a link, or is no whole outcome; two files of one key have
            different results. Nothing is written then.
    """
    for folder in folders:
        if not folder.is_dir():
            raise GauntletError(
                f"no folder {folder}", expected="a folder of outcomes", where="gauntlet merge", fix="check the path"
            )
    sources = [out, *(f for f in folders if f.resolve() != out.resolve())]
    chosen: dict[Path, Path] = {}
    copied = same = 0
    for kind, place in ((Journal, Path()), (RetrievalJournal, Path("retrieval"))):
        first: dict[str, tuple[Path, str]] = {}
        for folder in sources:
            for path, key, bits in _records(kind(folder)):
                if key not in first:
                    first[key] = (path, bits)
                    copied += folder is not out
                    chosen[place / f"{key}.json"] = path
                elif first[key][1] != bits:
                    raise _conflict(first[key][0], path, key)
                else:
                    same += first[key][0] != path
    kept = []
    for folder in sources:
        for path in _besides(folder):
            target = path.relative_to(folder)
            if chosen.setdefault(target, path).read_bytes() != path.read_bytes():
                kept.append(path)
    for target, path in chosen.items():
        if path != out / target:
            with writing(out / target, fix="make room or choose another --out; the same command goes on from there"):
                write_atomically(out / target, path.read_bytes())
    unfinished = [p for f in sources if f is not out for p in sorted(f.glob("**/*.partial.jsonl"))]
    return Merged(copied, same, tuple(kept), tuple(unfinished))


def _records(journal: RecordFolder[Any, Any]) -> Iterator[tuple[Path, str, str]]:
    """File, key and digest of the results of each outcome."""
    if not journal.folder.is_dir():
        return
    for path in sorted(journal.folder.glob("*.json")):
        if not path.name.endswith(BESIDE):
            record = journal.read(_no_link(path))
            yield path, record.key, record.bits_digest


def _besides(folder: Path) -> Iterator[Path]:
    for pattern in BESIDES:
        yield from map(_no_link, sorted(folder.glob(pattern)))


def _no_link(path: Path) -> Path:
    if path.is_symlink():
        raise GauntletError(
            "a link among outcomes", expected="files", where=str(path), fix="copy the file that it points to"
        )
    return path


def _conflict(one: Path, other: Path, key: str) -> GauntletError:
    return GauntletError(
        f"two outcomes of one key, {key}, with different results", expected="one result a cell",
        where=f"{one} and {other}",
        fix="find out which one is right (gauntlet verify FILE), and move the other away; nothing was merged",
    )  # fmt: skip
