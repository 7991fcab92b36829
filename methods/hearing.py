"""Hears which files this process opens: Python tells a hook, and safetensors, which opens in Rust, is made to tell."""

import functools
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import safetensors


@dataclass
class Heard:
    """Absolute paths of files that were opened.

    Args:
        read: for reading alone.
        written: in any other way.
    """

    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)


_listening: list[Heard] = []


@contextmanager
def hearing(heard: Heard) -> Iterator[Heard]:
    """Adds the files that are opened meanwhile. What other native code opens by itself makes no sound."""
    _hook()
    _listening.append(heard)
    try:
        yield heard
    finally:
        _listening[:] = [other for other in _listening if other is not heard]  # equal ones are somebody else's


@cache
def _hook() -> None:
    """Added once in a process, for it cannot be taken away; it does nothing while nobody listens."""
    sys.addaudithook(_hear)
    _make_safetensors_tell()


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    if not _listening or event != "open":
        return
    path, mode, flags = arguments
    if not isinstance(path, str | bytes | os.PathLike):
        return
    name = os.path.abspath(os.fsdecode(path))
    for_reading = "r" in mode and "+" not in mode if isinstance(mode, str) else not _writes(flags)
    for heard in _listening:
        (heard.read if for_reading else heard.written).add(name)


def _writes(flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _make_safetensors_tell() -> None:
    """Puts another `safe_open` wherever a module has it: before external code is imported, which then gets that one."""
    silent = safetensors.safe_open

    @functools.wraps(silent, updated=())
    def safe_open(filename: str | os.PathLike[str], *arguments: Any, **named: Any) -> object:
        sys.audit("open", filename, "r", os.O_RDONLY)
        return silent(filename, *arguments, **named)

    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("safe_open") is silent:
            setattr(module, "safe_open", safe_open)  # noqa: B010 - a module of somebody else
