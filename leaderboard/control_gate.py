"""What a night must pass before it spends anything: control numbers that cost little are run, and all must hold."""

from collections import Counter
from collections.abc import Sequence

from vlm_gauntlet.fixtures.datasets import is_reachable
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.natural_sets import set_of
from vlm_gauntlet.suites.cells import CellPlan, plan

from . import control_numbers as numbers
from .control_numbers import Held
from .evidence import Evidence

SAMPLES = 1000  # of a set: a wrong preprocessing, precision or prompt costs more than the interval of so many


def first_cells(backbone: str, *, seed: int, device: str, batch_size: int) -> list[CellPlan]:
    """The cells that answer control numbers without any attack, on data sets that are here or may be fetched.

    A mean is answered by all of its sets, or not at all. Weights that are not here end their cells as `not run`.

    Args:
        backbone: of the night; no source has numbers of any but one.
        seed, device, batch_size: of the cells.
    """
    if backbone != numbers.BACKBONE:
        return []
    wanted: dict[tuple[str, str], None] = {}
    listed = [set_of("VTAB", name) for name in known_datasets().list[numbers.LIST]]
    for control in numbers.control_numbers()[1]:
        if control.protocol != "clean" or control.recall:
            continue
        here = [name for name in (control.values or listed) if is_reachable(name)]
        if control.values or len(here) == len(listed):
            wanted |= {(control.method, name): None for name in here}
    return [
        cell
        for method, dataset in wanted
        for cell in plan(
            [method], backbone, [dataset], ["clean"], limit=SAMPLES, seed=seed, device=device, batch_size=batch_size
        )
    ]


def of_night(evidence: Evidence, backbone: str) -> list[Held]:
    """The control numbers of a night on a backbone, against what counts; none where no source has any."""
    return evidence.controls if backbone == numbers.BACKBONE else []


def told(found: Sequence[Held], backbone: str) -> str:
    """What a report says of the controls of a night, in one sentence."""
    if backbone != numbers.BACKBONE:
        return f"Controls not run: no public source has numbers of {backbone}."
    counts = Counter(one.word for one in found)
    word = {"does not hold": "do not hold", "holds": "hold", "not run": "not run"}[numbers.standing(found)]
    each = f"{counts['holds']} hold, {counts['does not hold']} do not, {counts['not run']} were not run"
    return f"Controls {word}: of {len(found)} numbers {each}."


def wrong(found: Sequence[Held]) -> list[str]:
    """Each number that does not hold: whose it is, what came, what was expected."""
    return [
        f"{one.control.method} on {one.dataset}, {one.control.protocol}, {one.control.measure}: {one.reason}"
        for one in found
        if one.word == "does not hold"
    ]


def check(found: Sequence[Held], where: str) -> None:
    """Lets a night through.

    Raises:
        GauntletError: a control number does not hold.
    """
    if broken := wrong(found):
        raise GauntletError(
            f"{len(broken)} of {len(found)} control numbers do not hold: {' '.join(broken)}",
            expected="what public sources measured with these weights on these pictures", where=where,
            fix="look at weights, data and preprocessing (gauntlet controls); nothing else was run. "
            "--despite-controls runs it all the same, and every outcome and the board say so",
        )  # fmt: skip
