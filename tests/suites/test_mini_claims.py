"""Frozen outcomes: written, read and judged by their samples alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard.comparison import ALPHA
from vlm_gauntlet.leaderboard.mini_verdicts import NEAR_TIES, Repeat, mini_verdicts
from vlm_gauntlet.suites.mini_claims import FILE, MiniClaim, freeze, mini_claims, read_mini_claims

from ..leaderboard.factory import outcome

BITS = "1101" * 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tecoa").mkdir()
    (tmp_path / "tecoa" / "card.toml").touch()
    return tmp_path


def frozen(bits: str = BITS, **more: object) -> MiniClaim:
    return MiniClaim.of(outcome(bits, **more))  # type: ignore[arg-type]


def word(bits: str, **more: object) -> str:
    (found,) = mini_verdicts([frozen()], [outcome(bits, **more)]).values()  # type: ignore[arg-type]
    return found.word


def test_what_is_frozen_is_read_again(folder: Path) -> None:
    made = [outcome(BITS), outcome(BITS, "clean"), outcome("5" * 80, draws=5, method="tecoa+learning_rate=x")]
    (path,) = freeze(made, folder)
    assert path == folder / "tecoa" / FILE
    assert sorted(read_mini_claims(path), key=str) == sorted(map(MiniClaim.of, made), key=str)


def test_freezing_a_part_keeps_the_rest(folder: Path) -> None:
    freeze([outcome(BITS), outcome(BITS, "clean")], folder)
    (path,) = freeze([outcome("0" * 80)], folder)
    assert {r.id: r.attacked for r in read_mini_claims(path)} == {
        frozen().id: "0" * 80, frozen(BITS, protocol_id="clean").id: BITS,
    }  # fmt: skip


def test_a_foreign_method_is_not_frozen(folder: Path) -> None:
    assert freeze([outcome(BITS, method="mine.py:Grey")], folder) == []


def test_equal_bits_are_unchanged_and_any_other_is_changed() -> None:
    assert word(BITS) == "unchanged"
    for other in ("0" * 12 + BITS[12:], BITS.replace("0", "1"), "0" + BITS[1:]):
        assert word(other) == "changed"


def turned(flips: int, bits: str = BITS) -> str:
    """The first bits turned over."""
    return "".join("10"[int(b)] for b in bits[:flips]) + bits[flips:]


@pytest.mark.parametrize(("flips", "fault"), [(0, False), (1, False), (2, False), (6, True), (80, True)])
def test_one_flip_may_be_rounding_and_many_are_a_fault(flips: int, fault: bool) -> None:
    """However they balance: as many gained as lost is as strange as all lost."""
    (found,) = mini_verdicts([frozen()], [outcome(turned(flips))]).values()
    assert (found.flipped, found.n, found.fault) == (flips, 80, fault)
    assert f"{flips} of 80" in found.reason or "All 80" in found.reason


def test_false_alarms_over_all_cells_of_a_run() -> None:
    """200 cells of 24 samples on a processor that flips one in a hundred: a run with any fault is one in twenty."""
    draws, cells, runs = np.random.default_rng(6), 200, 40
    names = [f"m{i}" for i in range(cells)]
    before = [frozen(BITS[:24], method=m) for m in names]
    alarms = 0
    for flipped in draws.random((runs, cells, 24)) < NEAR_TIES:
        now = [m.model_copy(update={"attacked": "".join(str(int(b) ^ int(f)) for b, f in zip(BITS, row, strict=False))})
               for m, row in zip(before, flipped, strict=True)]  # fmt: skip
        alarms += any(r.fault for r in _repeats(before, now))
    assert alarms <= binom.ppf(0.999, runs, ALPHA)


def test_a_broken_cell_is_found_among_all() -> None:
    before = [frozen(BITS[:24], method=f"m{i}") for i in range(200)]
    now = [*before[:-1], before[-1].model_copy(update={"attacked": turned(6, BITS[:24])})]
    assert [r.fault for r in _repeats(before, now)] == [False] * 199 + [True]


def _repeats(before: list[MiniClaim], now: list[MiniClaim]) -> list[Repeat]:
    """As `mini_verdicts`, of outcomes that are frozen already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MiniClaim, "of", classmethod(lambda _, made: made))
        patch.setattr(MiniClaim, "n", property(lambda m: len(m.clean)), raising=False)
        return list(mini_verdicts(before, now).values())  # type: ignore[arg-type]


def test_a_sample_of_several_draws_flips_oftener() -> None:
    (one,) = mini_verdicts([frozen("5" * 80, draws=5)], [outcome("4" * 3 + "5" * 77, draws=5)]).values()
    assert one.word == "changed" and one.flipped == 3 and not one.fault


def test_fewer_samples_are_compared_with_the_same_first_ones() -> None:
    assert word(BITS[:40]) == "unchanged"
    assert word(BITS * 2) == "unchanged"


def test_another_setting_is_not_compared() -> None:
    assert word(BITS, seed=1) == "not checkable"
    (found,) = mini_verdicts([frozen()], [outcome(BITS, "clean")]).values()
    assert found.word == "not run" and "--protocol pgd-10-white-box-linf-1-255" in found.command


def test_clean_cells_are_judged_by_clean_bits() -> None:
    one = frozen("1" * 80, protocol_id="clean")
    (found,) = mini_verdicts([one], [outcome("1" * 80, "clean", clean="0" * 20 + "1" * 60)]).values()
    assert found.word == "changed" and found.fault


def test_the_project_has_mini_claims_of_every_method_of_its_tiers() -> None:
    from vlm_gauntlet.suites.cells import plan
    from vlm_gauntlet.suites.tiers import tier

    for name in ("fast", "mini"):
        chosen = tier(name)
        here = {(r.method, r.dataset, r.protocol) for r in mini_claims() if r.backbone == chosen.backbone}
        cells = plan(chosen.methods, chosen.backbone, chosen.datasets, chosen.protocols, limit=1)
        wanted = {(c.method.label, c.dataset_name, c.protocol.id) for c in cells}
        assert wanted <= here, sorted(wanted - here)[:5]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_bytes_crash_the_loader(folder: Path, data: st.DataObject) -> None:
    (path,) = freeze([outcome("10", "clean")], folder)
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good)))
    path.write_bytes(good[:place] + data.draw(st.binary(max_size=9)) + good[place + data.draw(st.integers(0, 30)) :])
    try:
        list(read_mini_claims(path))
    except GauntletError as error:
        assert str(path) in error.where
    finally:
        path.unlink()
