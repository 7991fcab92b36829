"""Shards: a part of the cells for each machine, of about equal length, which everybody with the same code finds."""

from collections.abc import Sequence

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites.cells import CellPlan

from .passes import passes
from .schedule import schedule
from .sizes import pinned_size
from .work import key_of

UNKNOWN = 10_000.0  # passes for an image of a cell that does not tell: rather a machine of its own than a late end


def parse(text: str) -> tuple[int, int]:
    """`2/4` -> (2, 4).

    Raises:
        GauntletError: it is none of `1/N` to `N/N`.
    """
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise GauntletError(
        f"a shard {text!r}", expected="i/N with 1 <= i <= N", where="--shard", fix="such as 1/4 on the first of four"
    )


def shard(cells: Sequence[CellPlan], text: str, *, secret: bool = False) -> list[CellPlan]:
    """The cells of one shard, in their order.

    Lengths are counted on paper, from nothing that differs between machines.

    Args:
        cells: of the whole run.
        text: `i/N`.
        secret: whether the run would draw a seed of its own, which the shards could not share.

    Raises:
        GauntletError: see `parse`; or the seed would be another in each shard.
    """
    number, count = parse(text)
    if secret:
        raise GauntletError(
            "shards of a run that draws a secret seed", expected="one seed for all shards", where="--shard",
            fix="give all of them the same --seed, drawn once",
        )  # fmt: skip
    jobs = {key_of(cell): _length(cell) for cell in cells}
    own = set(schedule(jobs, count).machines[number - 1])
    return [cell for cell in cells if key_of(cell) in own]


def longest_first(cells: Sequence[CellPlan]) -> list[CellPlan]:
    """The cells in the order of `schedule`, by their lengths on paper: machines that share one queue end together."""
    return sorted(cells, key=lambda cell: (-_length(cell), key_of(cell)))


def _length(cell: CellPlan) -> float:
    size = pinned_size(cell.dataset_name)
    each = passes(cell.method, cell.protocol, classes=size.classes, backbone=cell.backbone_name)
    return (each.forward + each.backward if each else UNKNOWN) * (size.taken(cell.limit) or cell.limit)
