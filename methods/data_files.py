"""Data files that make a defence, beside its code: those of its folder here, those that an external one opens itself.

A safetensors file is opened without Python noticing: what is read of it counts through the built defence's state.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from vlm_gauntlet.fixtures.closure import code_digest, locate, root_of
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.snapshot import package_files

from .card import MEASURED

KINDS = frozenset({".toml", ".safetensors", ".json", ".csv", ".txt"})
CARDED = frozenset({".toml", ".safetensors"})  # of an external folder with a card: its other files may be outcomes
TELLING = frozenset({MEASURED, "claims.csv", "mini_claims.csv", "trainings.csv"})  # of it, changing nothing
CODE = frozenset({".py", ".pyc", ".pyi"})

_listening: list[set[str]] = []
_at_import: set[str] = set()
_read: dict[type, dict[Path, str]] = {}


def files_digest(kind: type) -> str:
    """Digest of a defence class's data files: names within its own folder, and contents when they were read."""
    folder, inside = _own_folder(kind)
    files = dict(_owned(folder, KINDS if inside else CARDED)) if (folder / "card.toml").is_file() else {}
    if not inside:
        _note(kind, _at_import, again=False)
        files |= _read.get(kind, {})
    return sha256("\n".join(sorted(f"{p.relative_to(folder).as_posix()}:{d}" for p, d in files.items())).encode())


def is_ours(kind: type) -> bool:
    """Whether a class belongs to this package."""
    return _own_folder(kind)[1]


def remember(kind: type) -> None:
    """Reads what makes a defence now, beside its import: a later edit does not change what this process runs."""
    files_digest(kind)
    if not _own_folder(kind)[1]:  # an edit of the package is noticed by itself
        code_digest([root_of(kind)])


@contextmanager
def importing() -> Iterator[None]:
    """Hears which files are opened while external code is imported; `files_digest` sorts out whose they are."""
    with _hearing() as heard:
        try:
            yield
        finally:
            _at_import.update(heard)


@contextmanager
def building(kind: type) -> Iterator[None]:
    """Hears which files of its own folder an external class opens while it is built.

    They add up over all builds in a process: a class that keeps what it has read opens the file only once.
    """
    with _hearing() as heard:
        yield
    _note(kind, heard, again=True)


@cache
def _own_folder(kind: type) -> tuple[Path, bool]:
    """A class's folder, links resolved, and whether it is one of this package."""
    module = locate(root_of(kind))
    inside = module.path in package_files()
    return (module.path.parent if inside else module.place.own.resolve()), inside


@cache
def _owned(folder: Path, kinds: frozenset[str]) -> tuple[tuple[Path, str], ...]:
    """Files of a folder, read once: a later edit does not change what this process runs."""
    found = sorted(p for p in folder.rglob("*") if p.suffix in kinds and p.name not in TELLING)
    return tuple((path, sha256(path.read_bytes())) for path in found)


def _note(kind: type, heard: set[str], *, again: bool) -> None:
    """Keeps the digests of those files that are data of the class's own folder."""
    folder, inside = _own_folder(kind)
    if inside:
        return
    known = _read.setdefault(kind, {})
    for path in (Path(name).resolve() for name in sorted(heard)):
        if (again or path not in known) and _is_data(path, folder):
            known[path] = sha256(path.read_bytes())


def _is_data(path: Path, folder: Path) -> bool:
    if not path.is_relative_to(folder) or path.name in TELLING or path.suffix in CODE or not path.is_file():
        return False
    parts = path.relative_to(folder).parts
    foreign = any(p.startswith(".") or p in ("site-packages", "dist-packages", "__pycache__") for p in parts)
    return not foreign and not any(path.is_relative_to(room) for room in _rooms())


@cache
def _rooms() -> frozenset[Path]:
    """The package's own folders, whose data have digests of their own."""
    return frozenset(path.parent for path, name in package_files().items() if name.count(".") == 1
                     and path.stem == "__init__")  # fmt: skip


@contextmanager
def _hearing() -> Iterator[set[str]]:
    _hook()
    heard: set[str] = set()
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening[:] = [other for other in _listening if other is not heard]  # equal ones are somebody else's


@cache
def _hook() -> None:
    """Added once in a process, for it cannot be taken away; it does nothing while nobody listens."""
    sys.addaudithook(_hear)


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if not _listening or event != "open":
        return
    path, mode, flags = arguments
    for_reading = "r" in mode and "+" not in mode if isinstance(mode, str) else not _writes(flags)
    if for_reading and isinstance(path, str | bytes | os.PathLike):
        name = os.path.abspath(os.fsdecode(path))
        if os.path.splitext(name)[1] not in CODE:
            for heard in _listening:
                heard.add(name)


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
