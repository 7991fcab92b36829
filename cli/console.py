"""What the commands print with."""

import os
from collections.abc import Iterable, Sequence

from rich.console import Console
from tabulate import tabulate

out = Console(soft_wrap=True, highlight=False, markup=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)


def table(rows: Iterable[Sequence[object]], headers: Sequence[str]) -> None:
    """Prints rows of text under headers."""
    out.print(
        tabulate([[str(cell) for cell in row] for row in rows], headers, tablefmt="simple", disable_numparse=True)
    )


def quiet() -> bool:
    """Whether progress bars would only fill a log."""
    return not out.is_terminal or "CI" in os.environ
