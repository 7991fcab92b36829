"""Puts a folder of pages into the place of another as a whole; what is the same in both is not written again."""

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from filecmp import cmp
from pathlib import Path

AT_FDCWD = -100
EXCHANGE = 2  # RENAME_EXCHANGE of renameat2(2): both names change hands in one step
STALE = 60.0  # seconds after which a folder that nobody holds is what a killed build left


def publish(out: Path, write: Callable[[Path], None]) -> bool:
    """Makes all files of a folder appear at once; a build that is killed leaves the folder that was there.

    Args:
        out: absent, or what an earlier call made.
        write: fills an empty folder beside it.

    Returns:
        Whether anything is another than before; where nothing is, the old folder stays as it is.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out)
    fresh = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    held = os.open(fresh, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        fresh.chmod(0o755)
        write(fresh)
        if changed := _differs(fresh, out):
            _swap(fresh, out)
        return changed
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        os.close(held)


def write_or_keep(path: Path, old: Path, data: bytes) -> None:
    """Writes a file; where the one of the earlier folder holds these bytes, it is that one under a second name."""
    if old.is_file() and not old.is_symlink() and old.read_bytes() == data and _linked(old, path):
        return
    path.write_bytes(data)


def _differs(fresh: Path, out: Path) -> bool:
    """Gives unchanged files their old inode, and with it their time, so that whoever copies the site skips them."""
    ours, theirs = _files(fresh), _files(out)
    same = {name for name in ours & theirs if _same(fresh / name, out / name)}
    return same != ours or ours != theirs or not out.is_dir()


def _files(folder: Path) -> set[str]:
    """All files below a folder, from there; a link to a file is one."""
    found = ((where, os.path.relpath(where, folder), names) for where, _, names in os.walk(folder))
    return {
        os.path.normpath(f"{below}/{name}")
        for where, below, names in found
        for name in names
        if os.path.isfile(f"{where}/{name}")
    }


def _same(path: Path, old: Path) -> bool:
    if old.is_symlink():
        return False
    if not path.samefile(old):
        if not cmp(path, old, shallow=False):
            return False
        spare = path.with_name(f".{path.name}.kept")
        if _linked(old, spare):
            os.replace(spare, path)
    return True


def _linked(old: Path, new: Path) -> bool:
    try:
        os.link(old, new)
    except OSError:  # a file system without hard links, or too many of them
        return False
    return True


def _swap(fresh: Path, out: Path) -> None:
    if not out.exists():
        os.replace(fresh, out)
        return
    if _exchanged(fresh, out):
        return
    old = fresh.with_name(f"{fresh.name}.old")  # a system that cannot exchange: for a moment there is no site
    os.replace(out, old)
    try:
        os.replace(fresh, out)
    except OSError:
        os.replace(old, out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE) == 0:
        return True
    if (code := ctypes.get_errno()) in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(code, os.strerror(code), str(other))


def _sweep(out: Path) -> None:
    """Removes what killed builds of this folder left; a build in flight holds its own."""
    for left in out.parent.glob(f".{out.name}.*"):
        try:
            place = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left, ignore_errors=True)
        except OSError:
            pass
        finally:
            os.close(place)
