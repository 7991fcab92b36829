"""Our order of methods beside the papers': the coefficient, its exact p-value, and what is compared with what."""

import json
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, spearmanr
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.leaderboard.comparison import ALPHA
from vlm_gauntlet.leaderboard.direction import FEWEST, Place, agreement, directions, t0_of_frozen, t0_of_rows
from vlm_gauntlet.leaderboard.rows import rows
from vlm_gauntlet.methods.claims import Claim, claims
from vlm_gauntlet.suites.mini_claims import MiniClaim, mini_claims

from .factory import outcome

ONE, FOUR = Fraction(1, 255), Fraction(4, 255)
TRANSFER, PSEUDO = "pgd-10-transfer-linf-1-255", "pgd-10-pseudo-transfer-linf-1-255"
THEIRS = {"cola": "60", "ttc": "50", "tte": "40", "undefended": "1"}


def test_the_coefficient_is_spearmans_and_p_counts_orders() -> None:
    """By hand: the squared differences 0 4 4 1 9 0 give 1 - 6 * 18 / 210; of 4! orders one is perfect."""
    rho, p = agreement([1, 2, 3, 4, 5, 6], [1, 4, 5, 3, 2, 6])
    assert rho == pytest.approx(1 - 6 * 18 / 210) and p is not None and p > 0.1
    assert agreement([1, 2, 3, 4], [0.1, 0.2, 0.7, 0.9]) == (pytest.approx(1), 1 / 24)
    assert agreement([4, 3, 2, 1], [0.1, 0.2, 0.7, 0.9]) == (pytest.approx(-1), 1)
    assert agreement([1, 2, 2, 4], [1, 2, 3, 4])[1] == 2 / 24, "two orders of a tie agree as well"
    assert agreement([0, 0, 0, 0], [1, 2, 3, 4]) == (None, None), "no order is no agreement"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=7))
@settings(deadline=None)
def test_it_is_scipys_coefficient_whatever_ties(pairs: list[tuple[int, int]]) -> None:
    ours, theirs = ([p[i] for p in pairs] for i in (0, 1))
    rho, p = agreement(ours, theirs)
    if len({*ours}) == 1 or len({*theirs}) == 1:
        assert rho is p is None
        return
    assert rho == pytest.approx(spearmanr(ours, theirs).statistic) and p is not None
    assert 1 / math.factorial(len(pairs)) <= p <= 1
    assert (rho, p) == pytest.approx(agreement([10 * o + 3 for o in ours], theirs)), "order alone counts"
    assert (rho, p) == pytest.approx(agreement(theirs, ours))


@pytest.mark.parametrize("n", [4, 5, 6, 8])
def test_size_and_power(n: int) -> None:
    """Without any relation p is below 5 % no oftener than that; with a strong one at eight methods mostly."""
    runs, draws = 300, np.random.default_rng(8)
    theirs = draws.standard_normal((runs, n))
    noise = draws.standard_normal((runs, n))
    chance = sum((agreement(a, b)[1] or 1) <= ALPHA for a, b in zip(noise.tolist(), theirs.tolist(), strict=True))
    related = (0.9 * theirs + (1 - 0.9**2) ** 0.5 * noise).tolist()
    found = sum((agreement(a, b)[1] or 1) <= ALPHA for a, b in zip(related, theirs.tolist(), strict=True))
    assert chance <= binom.ppf(0.999, runs, ALPHA)
    assert found > 2 * chance and (n < 8 or found > 0.8 * runs)


def test_more_orders_than_can_be_counted_are_drawn() -> None:
    rho, p = agreement(list(range(12)), list(range(12)))
    assert rho == pytest.approx(1) and p is not None and 0 < p < 1e-3
    assert agreement(list(range(12)), list(range(12))) == (rho, p), "the same ones each time"


def claim(method: str, value: str, protocol: str = "cola-pgd-10-linf-1-255", **more: object) -> Claim:
    fields: dict[str, object] = {
        "method": method, "source": "cola", "table": "Table X", "row": method, "column": "Avg", "value": value,
        "backbone": "ViT-B/32", "trained_on": "none", "setting": "zero-shot", "dataset": "cola-9",
        "protocol": protocol, "metric": "accuracy", "tag": "paper",
    }  # fmt: skip
    return Claim(**(fields | more))  # type: ignore[arg-type]


def reported(**more: object) -> list[Claim]:
    white = {"protocol": "cola-pgd-10-linf-1-255-white-box"}
    return [claim(m, v, **({**more, **white} if m == "undefended" else more)) for m, v in THEIRS.items()]  # type: ignore[arg-type]


def table(eps: Fraction = ONE, **more: tuple[float, int]) -> dict[Place, dict[str, tuple[float, int]]]:
    ours = {"cola": (0.8, 8), "ttc": (0.6, 8), "tte": (0.4, 8), "undefended": (0.0, 8)}
    return {("miniclip-cnn", "pacs_photo", eps): {**ours, **more}}


def test_the_undefended_model_on_itself_is_transferred_to() -> None:
    (found,) = directions(table(), reported())
    assert [m for m, _, _ in found.methods] == ["cola", "ttc", "tte", "undefended"]
    assert (found.rho, found.p, found.n) == (pytest.approx(1), 1 / 24, 8)
    others = [c.model_copy(update={"protocol": "cola-pgd-10-linf-1-255-white-box"}) for c in reported()]
    assert directions(table(), others) == [], "a defence attacked by its own gradient is another column"


def test_too_few_methods_are_not_compared() -> None:
    assert FEWEST == 4
    assert directions(table(), reported()[1:]) == []


def test_what_counts_as_a_number_of_a_source() -> None:
    assert directions(table(), reported(variant="on tecoa")) == []
    apart = [c.model_copy(update={"source": "bap"}) if i % 2 else c for i, c in enumerate(reported())]
    assert directions(table(), apart) == [], "numbers of two sources are no table"
    doubled = [*reported(), claim("cola", "10", dataset="imagenet")]
    (found,) = directions(table(), doubled)
    assert found.datasets == ("cola-9",) and found.methods[0] == ("cola", 0.8, 0.6), (
        "only data sets of the most methods"
    )


def test_budgets_must_be_equal_where_there_is_an_equal_one() -> None:
    assert directions(table(FOUR), reported()) != [], "nobody attacked it at 1/255: its budget stands for that"
    both = {**table(FOUR), **table(ONE)}
    assert [d.eps for d in directions(both, reported())] == [ONE]


def test_a_variant_with_more_samples_stands_for_its_method() -> None:
    more, fewer, same = ({"cola+views=16": (0.1, n)} for n in (9, 7, 8))
    names = [directions(table(**ours), reported())[0].methods[0][0] for ours in (more, fewer, same)]  # type: ignore[arg-type]
    assert names == ["cola+views=16", "cola", "cola"]


def test_a_board_and_frozen_outcomes_say_the_same() -> None:
    """The hardest transferred attack on images, as papers count: attacked images that are right, clean ones or not."""
    made = [
        outcome("1100", TRANSFER, clean="1000"),
        outcome("1110", PSEUDO),
        outcome("0000"),
        outcome("11", method="rn"),
    ]
    assert t0_of_rows(rows(made)) == t0_of_frozen(map(MiniClaim.of, made))
    assert t0_of_rows(rows(made)) == {("tiny", "shapes", ONE): {"tecoa": (0.5, 4)}}


def test_the_command_gives_every_table_and_the_readme_its_figures(tmp_path: Path) -> None:
    found = directions(t0_of_frozen(mini_claims()), claims())
    result = CliRunner().invoke(app, ["claims", "direction", "--json"])
    shown = json.loads(result.stdout)
    assert result.exit_code == 0 and [(d["source"], d["rho"], d["eps"]) for d in shown] == [
        (d.source, d.rho, str(d.eps)) for d in found
    ]
    text = (Path(__file__).parents[2] / "README.md").read_text()
    (said,) = re.findall(r"On `miniclip-cnn`.*?chance", text, re.DOTALL)
    figures = {(f"{d.rho:.2f}", len(d.methods), f"{d.p:.2f}") for d in found if d.rho is not None}
    told = re.findall(r"(-?\d\.\d\d) with [\w ]+ \((\d)[\w ]*, p = (\d\.\d\d)\)", said.replace("\n", " "))
    assert len(told) == 3 and {(rho, int(n), p) for rho, n, p in told} <= figures, "run `gauntlet claims direction`"
    empty = CliRunner().invoke(app, ["claims", "direction", "--outcomes", str(tmp_path)])
    assert "four methods in common" in empty.stdout
