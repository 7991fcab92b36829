"""Feeds parsers with spoiled files, and counts what comes back."""

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.errors import GauntletError

from .mutations import as_bytes, byte_edits, edited, spoiled, tree_edits
from .targets import Target


def fuzz(target: Target, inputs: int, *, again: bool) -> Counter[str]:
    """How many of the inputs a parser took (`read`) and how many it refused.

    Args:
        target: the parser.
        inputs: how many.
        again: the same ones each time.

    Raises:
        Exception: whatever came out that is no GauntletError, with the input that hypothesis made of it.
    """
    found: Counter[str] = Counter()
    raw = target.form is as_bytes
    edits = st.just([]) if raw else tree_edits
    spoils = st.tuples(byte_edits, byte_edits).map(lambda both: both[0] + both[1]) if raw else byte_edits

    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:

        @settings(
            max_examples=inputs, deadline=None, database=None, derandomize=again,
            phases=(Phase.generate, Phase.shrink), suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(st.integers(0, len(target.seeds) - 1), edits, spoils)
        def feed(seed: int, changes: list[tuple[int, str, object]], bytewise: list[tuple[int, str, bytes]]) -> None:
            data = spoiled(target.form(edited(target.seeds[seed], changes)), bytewise)
            try:
                target.read(data, Path(place))
            except GauntletError:
                found["refused"] += 1
            else:
                found["read"] += 1

        feed()
    return found
