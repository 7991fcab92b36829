"""Files that a defence from outside reads and that no digest of its cell holds; only a run tells which they are.

They are opened while it runs, or lie outside its folder, or are code that is imported by a computed name.
"""

import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import file_digest
from pathlib import Path

from vlm_gauntlet.fixtures.closure import root_of, this_process
from vlm_gauntlet.fixtures.datasets import data_root
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import user_cache

from .data_files import FOREIGN, is_ours, known_files, opened_at_import, rooms
from .hearing import hearing
from .registry import Method

SYSTEM = ("/proc", "/sys", "/dev", "/etc")


class LateFiles:
    """What a method's code opens in this process; nothing of a method of this project.

    Args:
        chosen: the method, just imported.
    """

    def __init__(self, chosen: Method) -> None:
        self._kinds = [kind for kind in _kinds(chosen) if not is_ours(kind)]
        self._heard = opened_at_import()
        self._seen: set[str] = set()
        self._found: dict[Path, str] = {}

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Use it around whatever runs the method's code.

        Raises:
            GauntletError: a file is not any more what it was when it was read before.
        """
        if not self._kinds:
            yield
            return
        with hearing(self._heard):
            yield
        self._note()

    def found(self) -> dict[str, str]:
        """SHA-256 of each file by its path."""
        return {str(path): digest for path, digest in sorted(self._found.items())}

    def _note(self) -> None:
        in_key = {*known_files(self._kinds), *this_process().modules(map(root_of, self._kinds))}
        known = in_key | _real(self._heard.written)
        new = {path for path in _real(self._heard.read - self._seen) if _counts(path)}
        self._seen |= self._heard.read
        self._found = {path: digest for path, digest in self._found.items() if path not in known}
        for path in (new - known) | self._found.keys():
            if self._found.setdefault(path, digest_of(path)) != digest_of(path):
                raise _moved(path)


def _kinds(chosen: Method) -> list[type]:
    return [chosen.defence, *(_kinds(chosen.tuned) if chosen.tuned else [])]


def _real(names: Iterable[str]) -> set[Path]:
    """Paths without links; of compiled code its source."""
    return {_source(Path(name).resolve()) for name in names}


def _source(path: Path) -> Path:
    if path.suffix != ".pyc":
        return path
    try:
        return Path(importlib.util.source_from_cache(path))
    except ValueError:  # it stands alone
        return path


def _counts(path: Path) -> bool:
    """Whether it is a file, and neither Python's, nor an installed package's, nor of what has digests of its own."""
    return path.is_file() and not FOREIGN & {*path.parts} and not any(map(path.is_relative_to, _elsewhere()))


@cache
def _elsewhere() -> frozenset[Path]:
    python = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    root = data_root()
    data = [user_cache(), *([root / "wds"] if root else [])]
    return rooms() | {folder.resolve() for folder in (*map(Path, (*SYSTEM, *python)), *data)}


def digest_of(path: Path) -> str:
    """SHA-256 of a file; read once while it stays as it is."""
    state = path.stat()
    return _digest(path, state.st_mtime_ns, state.st_size, state.st_ino)


@cache
def _digest(path: Path, *_state: int) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def moved(files: Mapping[str, str]) -> list[str]:
    """Those that are not any more what they were: another content, or gone."""
    return [name for name, digest in files.items() if not _is(Path(name), digest)]


def _is(path: Path, digest: str) -> bool:
    try:
        return path.is_file() and digest_of(path) == digest
    except (OSError, ValueError):
        return False


def joined(*several: Mapping[str, str]) -> dict[str, str]:
    """Files of several processes together.

    Raises:
        GauntletError: two of them read different contents.
    """
    found: dict[str, str] = {}
    for files in several:
        for name, digest in files.items():
            if found.setdefault(name, digest) != digest:
                raise _moved(Path(name))
    return dict(sorted(found.items()))


def _moved(path: Path) -> GauntletError:
    return GauntletError(
        f"{path.name} changed while the defence that reads it ran", expected="files that stay as they are",
        where=str(path), fix="run again; a defence may not write what it reads",
    )  # fmt: skip
