"""Durations as people write them: `60s`, `30m`, `8h`, `2d`."""

import re

from vlm_gauntlet.fixtures.errors import GauntletError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
FORM = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def duration(text: str, where: str) -> float:
    """Seconds.

    Raises:
        GauntletError: it is no number with a unit, or zero.
    """
    found = FORM.fullmatch(text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not seconds:
        raise GauntletError(
            f"a duration of {text!r}", expected="a number above 0 with s, m, h or d", where=where, fix="such as 8h"
        )
    return seconds


def told(seconds: float) -> str:
    """In the largest unit of which there is one: `4.2 h`."""
    for unit in ("d", "h", "m"):
        if seconds >= UNITS[unit] * (2 if unit == "d" else 1):
            return f"{seconds / UNITS[unit]:,.1f} {unit}"
    return f"{seconds:.1f} s"
