"""Frozen outcomes: written, read and judged by their samples alone."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard.mini_verdicts import mini_verdicts
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


def test_equal_bits_are_reproduced_and_a_drop_is_not() -> None:
    assert word(BITS) == "reproduced"
    assert word("0" * 12 + BITS[12:]) == "below claim"
    assert word(BITS.replace("0", "1")) == "above claim"
    assert word("0" + BITS[1:]) in ("reproduced", "inconclusive"), "one flip is no finding"


def test_fewer_samples_are_compared_with_the_same_first_ones() -> None:
    assert word(BITS[:40]) == "reproduced"
    assert word(BITS * 2) == "reproduced"


def test_another_setting_is_not_compared() -> None:
    assert word(BITS, seed=1) == "not checkable"
    (found,) = mini_verdicts([frozen()], [outcome(BITS, "clean")]).values()
    assert found.word == "not run" and "--protocol pgd-10-white-box-linf-1-255" in found.command


def test_clean_cells_are_judged_by_clean_bits() -> None:
    one = frozen("1" * 80, protocol_id="clean")
    (found,) = mini_verdicts([one], [outcome("1" * 80, "clean", clean="0" * 20 + "1" * 60)]).values()
    assert found.word == "below claim"


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
