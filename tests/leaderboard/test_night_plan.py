"""A plan knows what cells cost, which are done, and which claims and rows they settle."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.attacks.protocols import protocol
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard import settled
from vlm_gauntlet.leaderboard.night_plan import NightPlan, night_plan
from vlm_gauntlet.leaderboard.settled import claim_questions, row_questions
from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.methods.registry import method
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.planning import finished as finding
from vlm_gauntlet.suites.planning import passes as counting
from vlm_gauntlet.suites.planning.passes import Passes
from vlm_gauntlet.suites.planning.rates import calibrated, given, told
from vlm_gauntlet.suites.planning.sizes import MANY, Size, size_of
from vlm_gauntlet.suites.planning.work import key_of, told_passes, work_of

from .factory import outcome

VIT = "open_clip:ViT-B-32-quickgelu/openai"
RATE = given(100.0, backward=2.0)
PGD = "pgd-10-white-box-linf-16-255"


def cells(*protocols: str, methods: tuple[str, ...] = ("undefended",), dataset: str = "digits") -> list[CellPlan]:
    return plan(methods, "miniclip-vit", [dataset], protocols or ["clean", PGD], limit=6, batch_size=4)


def test_passes_are_counted_on_paper_and_seconds_follow() -> None:
    (attacked,) = (work_of(c, RATE, {}) for c in cells(PGD))
    assert attacked.counted and attacked.n == 6 and attacked.passes is not None and attacked.seconds is not None
    assert attacked.passes.backward == 6 * (10 + 1)  # ten steps, and the undefended model's gradient
    assert attacked.seconds == pytest.approx(attacked.passes.forward / 100 + attacked.passes.backward / 50)


def test_a_defence_costs_what_its_card_says_and_a_tower_what_its_defence_does() -> None:
    each = {m: counting.passes(method(m), protocol(PGD), classes=10, backbone="miniclip-vit") for m in
            ("undefended", "ttc", "ttc@tecoa")}  # fmt: skip
    assert each["ttc"] == each["ttc@tecoa"] and each["ttc"] and each["undefended"]
    assert each["ttc"].backward > 2 * each["undefended"].backward
    transferred = protocol("pgd-10-transfer-linf-1-255")
    cheap = counting.passes(method("ttc"), transferred, classes=10, backbone=VIT)
    assert cheap is not None and cheap.backward < each["ttc"].backward


def test_outcomes_tell_what_a_method_takes() -> None:
    made = outcome("1100", PGD, method="undefended", backbone="miniclip-vit")
    known = told_passes([made, made])
    (work,) = (work_of(c, RATE, known) for c in cells(PGD))
    assert not work.counted and work.passes == Passes(6 * (10 + 2), 6 * 10)
    rate = told([made], "cpu", "miniclip-vit")
    assert rate is not None and rate.forward == rate.backward == 80 / 1.5
    assert told([made], "another device", "miniclip-vit") is None


def test_a_rate_is_above_zero_and_can_be_measured() -> None:
    with pytest.raises(GauntletError, match="0 passes a second"):
        given(0)
    found = calibrated("miniclip-vit", "cpu", seconds=0.02, batch_size=1)
    assert found.forward > 0 and found.backward > 0 and "measured" in found.source


def test_sizes_of_sets_that_are_here() -> None:
    assert size_of("digits").classes == 10 and (size_of("digits").samples or 0) > 6
    nobody = size_of("no such set")
    assert nobody.classes == MANY and nobody.taken(500) == 500 and nobody.taken(10**6) is None


def made(tmp_path: Path, **asked: object) -> NightPlan:
    chosen = cells("clean", PGD, "pgd-20-adaptive-linf-16-255", "transfer-query-500-black-box-linf-16-255")
    return night_plan(chosen, [], RATE, tmp_path, backbone="miniclip-vit", seed=0, **asked)  # type: ignore[arg-type]


def test_a_row_needs_gradient_query_transfer_and_clean(tmp_path: Path) -> None:
    found = made(tmp_path)
    (row,) = [q for q in found.questions if q.kind == "row"]
    assert {k.rpartition(" [")[0].partition("digits-")[2] for k in row.cells} == {
        "clean", "pgd-20-adaptive-linf-16-255", "transfer-query-500-black-box-linf-16-255",
    }  # fmt: skip
    assert row_questions(cells("clean", PGD), found.seconds) == []
    everything = found.chosen(1e9)
    assert everything.settled[0] == row.name and set(everything.cells[:3]) == row.cells
    assert set(everything.cells) == {key_of(c) for c in found.cells} and found.chosen(0.01).settled == ()


def test_a_test_time_defence_needs_an_attacker_who_knows_it() -> None:
    white, knowing = "apgd-ce-20-white-box-linf-16-255", "pgd-20-adaptive-linf-16-255"
    query = "transfer-query-500-black-box-linf-16-255"
    every = cells("clean", white, knowing, query, methods=("undefended", "ttc"))
    seconds = {key_of(c): 1.0 + (c.protocol.id == knowing) for c in every}  # who knows more costs more
    plain, ttc = row_questions(every, seconds)[::-1]
    assert any(white in key for key in plain.cells) and not any(knowing in key for key in plain.cells)
    assert any(knowing in key for key in ttc.cells) and not any(white in key for key in ttc.cells)
    assert len(row_questions([c for c in every if c.protocol.id != knowing], seconds)) == 1


def test_cells_without_a_checkpoint_are_counted_and_never_chosen(tmp_path: Path) -> None:
    chosen = plan(["undefended", "tecoa", "ttc@tecoa"], VIT, ["digits"], ["clean"], limit=6)
    asked = {"backbone": VIT, "seed": 0}
    found = night_plan(chosen, [], RATE, tmp_path, **asked)  # type: ignore[arg-type]
    assert {k.partition("-open")[0] for k in found.lacking} == {"tecoa", "ttc@tecoa"}
    assert found.chosen(1e9).cells == tuple(k for k in map(key_of, chosen) if k.startswith("undefended"))
    assert found.hours > found.runnable_hours > 0
    as_if = night_plan(chosen, [], RATE, tmp_path, trained=True, **asked)  # type: ignore[arg-type]
    assert not as_if.lacking and len(as_if.chosen(1e9).cells) == 3


def test_finished_cells_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = made(tmp_path)
    (clean, *_) = before.cells
    monkeypatch.setattr("vlm_gauntlet.leaderboard.night_plan.finished", lambda *_, **__: {key_of(clean)})
    after = made(tmp_path)
    assert [w.done for w in after.works] == [c is clean or key_of(c) == key_of(clean) for c in after.cells]
    assert after.hours < before.hours and key_of(clean) not in after.spread(2).machines[0]


def test_an_outcome_of_other_code_or_data_is_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = cells(PGD)
    own = outcome("111111", PGD, method="undefended", backbone="miniclip-vit", dataset="digits")
    monkeypatch.setattr(finding.KnownHere, "digests", None, raising=False)
    monkeypatch.setattr(finding, "_same", lambda *_: True)
    assert finding.finished([cell], [own], seed=0) == {key_of(cell)}
    assert finding.finished([cell], [own], seed=1) == finding.finished([cell], [own], seed=None) == set()
    monkeypatch.undo()
    assert finding.finished([cell], [own], seed=0) == set()  # its data and code are of nowhere


def test_claims_ask_for_whole_sets_and_say_what_blocks_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "size_of", lambda name: Size(None if name == "cifar10" else 9000, 10))
    own = [c for c in claims() if c.source == "mmcoa" and c.method in ("undefended", "tecoa")]
    found = claim_questions(own, VIT, seed=0, device="cpu", batch_size=8, trained=False)
    names = {q.name for q in found.questions}
    assert names and names | found.blocked.keys() == {c.id for c in own} and not names & found.blocked.keys()
    assert {c.method.label for c in found.cells} == {"undefended"} and {c.limit for c in found.cells} == {1_000_000}
    assert {c.dataset_name for c in found.cells} & {"cifar100"} and "cifar10" not in {
        c.dataset_name for c in found.cells
    }
    keys = {key_of(c) for c in found.cells}
    assert all(q.cells <= keys for q in found.questions)
    others = claim_questions(own, "miniclip-vit", seed=0, device="cpu", batch_size=8, trained=False)
    assert not others.questions and any("this plan about" in reason for reason in others.blocked.values())


def test_the_command_tells_a_plan_and_its_budget(tmp_path: Path) -> None:
    asked = ["plan", "--tier", "fast", "--passes", "1000", "--method", "undefended", "--dataset", "fashion_mnist",
             "--no-claims", "--outcomes", str(tmp_path / "none"), "--machines", "2", "--hour", "3"]  # fmt: skip
    plain = CliRunner().invoke(app, [*asked, "--budget", "1h"])
    assert plain.exit_code == 0, plain.output
    assert "9 cells, 0 done" in plain.output and "2 machines: done after" in plain.output
    assert "settle 0 claims and 1 rows" in plain.output
    assert "what makes it affordable, at 3 an hour" in plain.output and "what settles most in 1h" in plain.output
    record = json.loads(CliRunner().invoke(app, [*asked, "--json"]).output)
    assert record["hours"] * 3600 == pytest.approx(sum(c["seconds"] for c in record["cells"]))
    whole, limited = record["ways"]  # the tier limits nothing by cost
    assert whole["hours"] == limited["hours"] == pytest.approx(record["hours"])
    assert limited["cost"] == pytest.approx(3 * limited["hours"]) == record["schedule"]["cost"]
    assert limited["makespan"] == record["schedule"]["makespan"] < 3600 * limited["hours"]
    short = CliRunner().invoke(app, [*asked, "--budget", "10s"]).output
    (row,) = [line.split() for line in short.splitlines() if line.startswith("limits by cost")]
    assert int(row[-2].replace(",", "")) == math.ceil(3600 * record["hours"] / (2 * 10)) > 2, "nights of two machines"
    free = json.loads(CliRunner().invoke(app, [*asked[:-2], "--json"]).output)
    assert free["schedule"]["cost"] is None and {way["cost"] for way in free["ways"]} == {None}
    assert not (tmp_path / "none").exists()
    bad = CliRunner().invoke(app, [*asked, "--budget", "8"])
    assert bad.exit_code == 2
    rateless = CliRunner().invoke(app, ["plan", "--tier", "fast", "--outcomes", str(tmp_path), "--no-claims"])
    assert rateless.exit_code == 2
