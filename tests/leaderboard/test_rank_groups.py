"""Ranks as ranges: what chance leaves open, by simulation, and what a table shows of it.

Simulated shares are held to their nominal ones up to the binomial error of the simulation, at one in a thousand.
"""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard.comparison import ALPHA
from vlm_gauntlet.leaderboard.exports import to_csv, to_json, to_latex
from vlm_gauntlet.leaderboard.paired import needed_for_power
from vlm_gauntlet.leaderboard.rank_groups import RankRange, beyond_chance, compared, rank_ranges, remaining
from vlm_gauntlet.leaderboard.rows import Row, rows
from vlm_gauntlet.leaderboard.site import build_site
from vlm_gauntlet.leaderboard.table import text_table

from .factory import outcome

PGD, ADAPTIVE, FGSM = "pgd-10-white-box-linf-1-255", "pgd-20-adaptive-linf-1-255", "fgsm-white-box-linf-1-255"


def at_least(share: float, runs: int) -> float:
    return float(binom.ppf(0.001, runs, share)) / runs


def at_most(share: float, runs: int) -> float:
    return float(binom.ppf(0.999, runs, share)) / runs


def tables(true: list[float], n: int, runs: int, *, draws: int = 1, seed: int = 0) -> NDArray[np.float64]:
    """Fractions [runs, rows, n] of rows with these true worst cases on samples some of which are hard for all."""
    drawn = np.random.default_rng(seed)
    hardness = drawn.normal(0, 0.15, (runs, 1, n))
    hardness -= hardness.mean(2, keepdims=True)
    right = np.clip(np.array(true)[None, :, None] + hardness, 0, 1)
    return drawn.binomial(draws, right) / draws


def better(fractions: NDArray[np.float64]) -> NDArray[np.bool_]:
    return beyond_chance(*compared(fractions))


@pytest.mark.parametrize(("n", "draws"), [(8, 1), (24, 1), (200, 1), (24, 5)])
def test_equal_rows_are_all_of_all_ranks(n: int, draws: int) -> None:
    """Size: eight rows alike, and a table that sets any apart comes no oftener than the level says."""
    runs = 300
    found = [better(one).any() for one in tables([0.45] * 8, n, runs, draws=draws)]
    assert np.mean(found) <= at_most(ALPHA, runs)


@pytest.mark.parametrize("n", [24, 100])
def test_ranges_hold_the_true_ranks_and_false_orders_are_few(n: int) -> None:
    """Coverage; and of the pairs that are set apart at most one in twenty is alike or the wrong way round."""
    true, runs = [0.7, 0.6, 0.6, 0.45, 0.45, 0.45, 0.3, 0.1], 300
    held, false = [], []
    truly = np.subtract.outer(true, true) > 0
    ranks = [(1 + sum(o > t for o in true), len(true) - sum(o < t for o in true)) for t in true]
    for one in tables(true, n, runs):
        found = better(one)
        false.append((found & ~truly).sum() / max(1, found.sum()))
        best, worst = 1 + found.sum(0), len(true) - found.sum(1)
        held += [b <= r and w >= s for b, w, (r, s) in zip(best, worst, ranks, strict=True)]
    assert np.mean(held) >= at_least(1 - ALPHA, len(held))
    assert np.mean(false) <= ALPHA + 3 * np.std(false) / runs**0.5


def test_a_false_order_of_few_samples_is_not_shown() -> None:
    """True 47.5 and 42.5 at n = 8: the table's order is wrong in a third of cases, the ranges leave both ranks open."""
    runs = 500
    seen = tables([0.475, 0.425], 8, runs)
    means = seen.mean(2)
    assert np.mean(means[:, 0] < means[:, 1]) > 0.25, "the planted fault is none"
    assert np.mean([better(one).any() for one in seen]) <= at_most(ALPHA, runs)


@pytest.mark.parametrize(("gap", "n"), [(0.2, 0.46), (0.1, 0.46)])
def test_the_samples_told_are_enough(gap: float, n: float) -> None:
    """Power: with twice the samples that one test needs for 80 %, two rows are set apart nearly always, and rightly."""
    size, runs = needed_for_power(gap, n), 300
    assert size is not None
    found = [better(one) for one in tables([0.45 + gap / 2, 0.45 - gap / 2], 2 * size, runs)]
    assert np.mean([f[0, 1] for f in found]) >= at_least(0.95, runs)
    assert not any(f[1, 0] for f in found)


@given(st.lists(st.lists(st.integers(0, 3), min_size=12, max_size=12), min_size=1, max_size=6))
@settings(deadline=None)
def test_ranges_always_make_sense(counts: list[list[int]]) -> None:
    fractions = np.array(counts) / 3
    found = better(fractions)
    assert not (found & found.T).any() and not found.diagonal().any()
    assert (fractions.mean(1)[:, None] >= fractions.mean(1))[found].all(), "better beyond chance, and better at all"
    best, worst = 1 + found.sum(0), len(counts) - found.sum(1)
    assert (best >= 1).all() and (best <= worst).all() and (worst <= len(counts)).all()
    order = np.random.default_rng(0).permutation(len(counts))
    assert (better(fractions[order]) == found[np.ix_(order, order)]).all(), "the order of rows says nothing"


def made(right: int, method: str, n: int = 40, **more: object) -> Outcome:
    return outcome("1" * right + "0" * (n - right), method=method, **more)  # type: ignore[arg-type]


def ranked(*outcomes: Outcome, masked: str = "") -> list[Row]:
    """Rows as if every attack that a rank wants had been run; those of `masked` as where a flag is unanswered."""
    found = [replace(row, state="masked" if row.method == masked else "valid") for row in rows(outcomes)]
    return sorted(found, key=lambda row: (row.block, row.rank))


def ranges(*outcomes: Outcome, masked: str = "") -> dict[str, RankRange]:
    return {key[1]: found for key, found in rank_ranges(ranked(*outcomes, masked=masked)).items()}


def test_rows_of_a_table_get_their_ranges() -> None:
    found = ranges(made(36, "aom"), made(34, "rn"), made(4, "tecoa"), made(3, "hd"))
    assert {m: r.words for m, r in found.items()} == {"aom": "1–2", "rn": "1–2", "tecoa": "3–4", "hd": "3–4"}
    assert {r.of for r in found.values()} == {4}
    assert found["aom"].gap is not None and found["aom"].gap[0] == pytest.approx(0.05)
    assert found["aom"].gap[1] < 0 < found["aom"].gap[2] and found["rn"].gap is not None and found["rn"].gap[1] > 0
    assert found["aom"].needed == needed_for_power(0.05, 0.05) and found["hd"].needed is None
    assert ranges(made(36, "aom"), made(4, "rn"))["aom"].words == "1"


def test_only_valid_rows_take_part() -> None:
    unbounded = [made(0, m, protocol_id="pgd-20-adaptive-linf-1") for m in ("aom", "rn")]
    found = ranges(made(36, "aom"), made(4, "rn"), made(40, "hd"), *unbounded, masked="hd")
    assert {m: (r.words, r.of) for m, r in found.items()} == {"aom": ("1", 2), "rn": ("2", 2)}


def test_tables_are_judged_apart() -> None:
    found = rank_ranges(ranked(made(36, "aom"), made(4, "rn"), made(20, "aom", dataset="other")))
    assert sorted(r.of for r in found.values()) == [1, 2, 2]


def test_other_samples_leave_the_order_open() -> None:
    """Rows on other samples, or on another edition of the data, are not compared: the range says so by its width."""
    other = made(4, "rn", ids=[f"x{i}" for i in range(40)])
    found = ranges(made(40, "aom"), other)
    assert [r.words for r in found.values()] == ["1–2", "1–2"] and found["aom"].gap is None
    assert ranges(made(40, "aom"), made(2, "rn", n=20))["aom"].words == "1–2"
    three = ranges(made(40, "aom"), made(4, "hd"), other)
    assert {m: r.words for m, r in three.items()} == {"aom": "1–2", "hd": "2–3", "rn": "1–3"}


def test_samples_are_paired_by_their_ids() -> None:
    """One row's file in another order is the same row."""
    ids = [f"{i:04d}" for i in range(40)]
    turned = outcome("0" * 20 + "1" * 20, method="rn", ids=ids[::-1])
    found = ranges(made(20, "aom"), turned)
    assert found["aom"].gap is not None and found["aom"].gap[0] == 0 and found["aom"].needed is None
    (ours, left), (theirs, same) = (remaining(row) for row in rows([made(20, "aom"), turned]))
    assert ours == theirs and (left == same).all()


def test_what_remains_is_the_worst_case_of_the_row() -> None:
    attacks = [outcome("5555500000", PGD, draws=5), outcome("0443322115", ADAPTIVE, draws=5)]
    (row,) = ranked(*attacks, outcome("5" * 10, FGSM, draws=5))
    assert row.worst is not None
    assert remaining(row)[1].mean() == pytest.approx(row.worst.accuracy.value)


def test_every_table_shows_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [made(36, "aom"), made(34, "rn"), made(40, "hd")]
    found = ranked(*outcomes, masked="hd")
    monkeypatch.setattr("vlm_gauntlet.leaderboard.table.rows", lambda _: found)
    lines = {line.split()[0]: line.split() for line in text_table(outcomes).splitlines() if line}
    assert lines["aom"][1] == lines["rn"][1] == "1–2" and lines["hd"][1] == "–"
    assert lines["aom"][3] == str(needed_for_power(0.05, 0.05)) and lines["rn"][3] == "–"
    assert "1--2" in to_latex(found)
    by_method = {r["method"]: r for r in json.loads(to_json(found))}
    assert [by_method["aom"][f"rank_{k}"] for k in ("best", "worst", "of")] == [1, 2, 2]
    assert by_method["hd"]["rank_best"] is None and by_method["aom"]["gap_to_next"] == pytest.approx(0.05)
    assert [line["rank_worst"] for line in csv.DictReader(io.StringIO(to_csv(found)))].count("2") == 2


def test_pages_show_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [made(36, "aom"), made(34, "rn")]
    monkeypatch.setattr("vlm_gauntlet.leaderboard.evidence.rows", lambda _: ranked(*outcomes))
    monkeypatch.setattr("vlm_gauntlet.leaderboard.site.write_claim_pages", lambda *_: None)
    text = (build_site(outcomes, tmp_path / "site").parent / "datasets" / "shapes.html").read_text()
    assert text.count('<span class="value">1–2</span> <span class="interval">of&nbsp;2</span>') == 2
    assert text.count("to tell next</span>") == 1
