"""Data files that make a defence, beside its code: those of its folder here, those that an external one opens itself.

They are those that it opens when it is imported and built: what it opens later is in `late_files.py`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from vlm_gauntlet.fixtures.closure import code_digest, locate, root_of
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.snapshot import package_files

from .card import MEASURED
from .hearing import Heard, hearing

KINDS = frozenset({".toml", ".safetensors", ".json", ".csv", ".txt"})
CARDED = frozenset({".toml", ".safetensors"})  # of an external folder with a card: its other files may be outcomes
TELLING = frozenset(
    {MEASURED, "released.toml", "claims.csv", "mini_claims.csv", "trainings.csv"}
)  # of it, changing nothing
CODE = frozenset({".py", ".pyc", ".pyi"})
FOREIGN = frozenset({"site-packages", "dist-packages"})

_at_import = Heard()
_read: dict[type, dict[Path, str]] = {}


def files_digest(kind: type) -> str:
    """Digest of a defence class's data files: names within its own folder, and contents when they were read."""
    folder, inside = _own_folder(kind)
    files = dict(_owned(folder, KINDS if inside else CARDED)) if (folder / "card.toml").is_file() else {}
    if not inside:
        _note(kind, _at_import.read, again=False)
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
    with hearing(_at_import):
        yield


@contextmanager
def building(kind: type) -> Iterator[None]:
    """Hears which files of its own folder an external class opens while it is built.

    They add up over all builds in a process: a class that keeps what it has read opens the file only once.
    """
    if is_ours(kind):
        yield
        return
    with hearing(Heard()) as heard:
        yield
    _note(kind, heard.read, again=True)


def opened_at_import() -> Heard:
    """What was opened while external code was imported; a copy."""
    return Heard({*_at_import.read}, {*_at_import.written})


def known_files(kinds: Iterable[type]) -> set[Path]:
    """The files that the classes' digests hold."""
    return {path for kind in kinds for path in _read.get(kind, {})}


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
    foreign = any(p.startswith(".") or p == "__pycache__" or p in FOREIGN for p in parts)
    return not foreign and not any(path.is_relative_to(room) for room in rooms())


@cache
def rooms() -> frozenset[Path]:
    """The package's own folders, whose data have digests of their own."""
    return frozenset(path.parent for path, name in package_files().items() if name.count(".") == 1
                     and path.stem == "__init__")  # fmt: skip
