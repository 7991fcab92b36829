"""Finished cells that are not taken again, because code or files have changed since."""

import json
from collections.abc import Iterable
from pathlib import Path

from vlm_gauntlet.fixtures.files import read_plain
from vlm_gauntlet.fixtures.records import Cell
from vlm_gauntlet.methods.late_files import moved

from .late_folder import REPLACED
from .retrieval_records import RetrievalCell


def made_by_other_code(folder: Path, cells: Iterable[Cell]) -> int:
    """How many finished cells of a folder are like one of these, but for the digest of their code, method or attack.

    A file that is no outcome is passed over: reading it has its own error.
    """
    wanted = {_place(cell.model_dump(mode="json")): cell for cell in cells}
    count = 0
    for path in sorted(folder.glob("*.json")):
        try:
            found = json.loads(read_plain(path))["cell"]
            ours = wanted.get(_place(found))
            digests = (found["code_digest"], found["method_digest"], found.get("attack_digest", ""))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        count += ours is not None and digests != (ours.code_digest, ours.method_digest, ours.attack_digest)
    return count


def made_with_other_files(folder: Path, cells: Iterable[Cell | RetrievalCell]) -> dict[str, list[str]]:
    """Outcomes of these cells that were replaced, by file name, each with names of files that are others now."""
    keys = {cell.key for cell in cells}
    found = {}
    for path in sorted((folder / REPLACED).glob("*.json")):
        if path.name.partition(".")[0] in keys:
            try:
                files = json.loads(read_plain(path))["provenance"]["files"]
                found[path.name] = sorted(Path(name).name for name in moved(files))
            except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
                continue
    return found


def _place(cell: dict[str, object]) -> tuple[object, ...]:
    """What people call the same cell."""
    protocol = cell["protocol"]
    if not isinstance(protocol, dict):
        raise TypeError("a protocol is a table")
    return (*(cell[name] for name in ("method", "backbone", "dataset", "seed", "limit")), protocol["id"])
