"""A catalogue of defences that hide, lie, remember or read along: none of them ranks above what it is worth.

What a dummy is worth is what obvious strong attacks leave of the model behind it. False robustness is the board's worst
case minus that; at most one sample, or the row does not rank and says why. The quick ones run always, all of them with
`make dummies`.
"""

import inspect
import os
from functools import cache
from pathlib import Path

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard.rows import Row, rows
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.running import run_cell

from ..dummies import callers, gradients, logits, memory, places, readers, tampering
from ..dummies.inner import OnTeCoA

QUICK = {"InTheModule", "FrameReaderAlive", "KeyReader"}
REFUSED = {
    "InABuffer", "KeyReader", "KeyReaderWhoDraws", "NearestOfTheTestSet", "NoSteps", "OnDisk", "OnDiskAlive",
    "StepsBack", "Unrecorded",
}  # fmt: skip
"""They run into what a defence from outside may not do: the cell fails, and no row stands."""
ALL = bool(os.environ.get("GAUNTLET_DUMMIES"))
N = 24 if ALL else 8
PROTOCOLS = ("pgd-10-white-box-linf-16-255", "pgd-20-adaptive-linf-16-255", "transfer-query-500-black-box-linf-16-255")
STRONG = (*PROTOCOLS, "apgd-t-20-white-box-linf-16-255")


def catalogue() -> dict[str, str]:
    """Addresses of the dummies, with what is behind each."""
    return {
        f"{module.__name__}:{name}": kind.behind or kind.inner
        for module in (callers, gradients, logits, memory, places, readers, tampering)
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, OnTeCoA) and kind.__module__ == module.__name__
    }


def row_of(name: str, folder: Path, protocols: tuple[str, ...]) -> Row:
    cells = plan([name], "miniclip-vit", ["fashion_mnist"], protocols, limit=N, batch_size=N)
    (row,) = rows([run_cell(cell, Journal(folder)) for cell in cells])
    return row


@cache
def worth(inner: str, folder: Path) -> int:
    """Samples that strong attacks leave of a model."""
    row = row_of(inner, folder, STRONG)
    assert row.worst is not None
    return round(N * row.worst.accuracy.value)


def test_there_are_enough() -> None:
    assert len(catalogue()) >= 50 and len(QUICK & {name.rpartition(":")[2] for name in catalogue()}) == len(QUICK)


@pytest.mark.parametrize("name", sorted(catalogue()), ids=lambda name: name.rpartition(":")[2])
def test_it_does_not_rank_above_its_worth(
    name: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not ALL and name.rpartition(":")[2] not in QUICK:
        pytest.skip("the whole catalogue runs with `make dummies`")
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # of what remembers on disk
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))  # where another process finds the dummy
    try:
        row = row_of(name, tmp_path, PROTOCOLS)
    except GauntletError as refused:
        print(f"{name.rpartition(':')[2]}: refused: {refused.came}")
        assert name.rpartition(":")[2] in REFUSED, "an error that nobody planned is no judgement"
        return
    assert name.rpartition(":")[2] not in REFUSED
    behind = worth(catalogue()[name], tmp_path_factory.getbasetemp() / "worth")
    claimed = N if row.worst is None else round(N * row.worst.accuracy.value)
    caught = [f.name for f in row.masked_by] or list(row.missing)
    print(f"{name.rpartition(':')[2]}: {row.state}, {claimed} of {N}, worth {behind}: {', '.join(caught) or 'ranks'}")
    assert row.state != "valid" or claimed <= behind + 1, "it ranks above what it is worth"
    assert row.state == "valid" or caught, "it does not rank, and nobody says why"
