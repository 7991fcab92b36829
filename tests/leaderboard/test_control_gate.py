"""The gate before a night: what it runs, what it lets through, and that nothing else is run where a number is wrong."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.engine import Where
from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures import datasets
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.leaderboard import control_gate as gate
from vlm_gauntlet.leaderboard import control_numbers as module
from vlm_gauntlet.leaderboard.control_numbers import BACKBONE, Control, control_numbers, held
from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome

from .factory import retrieved
from .test_control_numbers import ONE, planted

RECALL = Control(source="clip-benchmark", method="undefended", protocol="clean", measure="text to image, R@5",
                 decimals=1, values={"coco": 50.0})  # fmt: skip


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "control_numbers", lambda: (control_numbers()[0], (ONE, RECALL)))


def searched(hits: int, of: int, **more: object) -> RetrievalOutcome:
    ranks = [4] * hits + [5] * (of - hits)
    return retrieved(ranks, ranks, method="undefended", backbone=BACKBONE, dataset="coco", **more)  # type: ignore[arg-type]


def test_what_costs_little_is_run_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "is_reachable", lambda name: name in ("cifar10", "stl10", "food101"))
    cells = gate.first_cells(BACKBONE, seed=3, device="cpu", batch_size=8)
    assert [(c.method.label, c.dataset_name, c.protocol.id) for c in cells] == [
        ("undefended", "cifar10", "clean"), ("undefended", "stl10", "clean"),
    ]  # fmt: skip
    assert {(c.backbone_name, c.limit, c.seed, c.batch_size) for c in cells} == {(BACKBONE, gate.SAMPLES, 3, 8)}
    monkeypatch.setattr(gate, "is_reachable", lambda _: True)
    everywhere = gate.first_cells(BACKBONE, seed=0, device="cpu", batch_size=8)
    assert {c.method.label for c in everywhere} == {"undefended", "tecoa+released=eps1", "fare+released=eps1"}
    assert len(everywhere) == 16 + 2 * 13 and {c.protocol.id for c in everywhere} == {"clean"}
    assert gate.first_cells("miniclip-vit", seed=0, device="cpu", batch_size=8) == []


@pytest.mark.usefixtures("only")
def test_a_number_that_is_another_lets_nothing_through() -> None:
    right, other = (gate.of_night(Evidence([planted(ONE, "cifar10", share, 1000)]), BACKBONE) for share in (0.9, 0.5))
    gate.check(right, "outcomes")
    assert gate.told(right, BACKBONE) == "Controls not run: of 2 numbers 1 hold, 0 do not, 1 were not run."
    with pytest.raises(GauntletError, match="1 of 2 control numbers do not hold: undefended on cifar10") as raised:
        gate.check(other, "outcomes")
    assert "50.00 here, 89.82 there" in str(raised.value) and "--despite-controls" in str(raised.value)
    assert gate.told(other, BACKBONE).startswith("Controls do not hold: ") and len(gate.wrong(other)) == 1
    assert gate.of_night(Evidence([planted(ONE, "cifar10", 0.5, 1000)]), "miniclip-vit") == []
    assert gate.told([], "miniclip-vit") == "Controls not run: no public source has numbers of miniclip-vit."
    whole = [*right[:1], *held([], [searched(2500, 5000)])[1:]]
    assert gate.told(whole, BACKBONE).startswith("Controls hold: of 2 numbers 2 hold")


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize(
    ("hits", "of", "word"),
    [(2500, 5000, "holds"), (2527, 5000, "holds"), (2529, 5000, "does not hold"), (2460, 5000, "does not hold"),
     (2000, 4000, "not run")],
)  # fmt: skip
def test_recall_is_of_the_whole_set_within_half_a_point(hits: int, of: int, word: str) -> None:
    found = held([], [searched(hits, of)])[1]
    assert found.word == word and (word == "not run" or found.n == 2 * of)
    assert "gauntlet retrieval --method undefended" in found.command
    assert held([], [searched(hits, of, age_days=0), searched(0, of, age_days=1)])[1].word == word, "the newest speaks"


def test_a_wrong_control_number_is_refused() -> None:
    fields = {"source": "s", "method": "undefended", "protocol": "clean", "measure": "image to text, R@5"}
    for bad in ({"mean": 5.0}, {"values": {"coco": 5.0}, "samples": 10}, {"values": {"coco": 5.0}, "protocol": "fgsm"}):
        with pytest.raises(ValueError, match="recall is of whole sets"):
            Control.model_validate({**fields, **bad})


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize("go_on", [False, True])
def test_a_night_stops_at_a_wrong_control_and_with_leave_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, go_on: bool
) -> None:
    monkeypatch.setattr(module, "BACKBONE", "miniclip-vit")
    monkeypatch.setattr(gate, "SAMPLES", 100)
    monkeypatch.setattr(module, "control_numbers", lambda: (control_numbers()[0], (_embedded(99.0),)))
    asked = ["night", "--tier", "fast", "--passes", "100000", "--budget", "1h", "--method", "rn", "--dataset", "digits",
             "--protocol", "clean", "--limit", "4", "--no-claims", "--outcomes", str(tmp_path / "o"),
             "--out", str(tmp_path / "site"), "--report", str(tmp_path)]  # fmt: skip
    ran: list[str] = []
    original = Where.run

    def run(self: Where, cells, *rest, **more):  # type: ignore[no-untyped-def]
        ran.extend(cell.id for cell in cells)
        return original(self, cells, *rest, **more)

    monkeypatch.setattr(Where, "run", run)
    result = CliRunner().invoke(app, [*asked, *(["--despite-controls"] if go_on else [])])
    outcomes = {o.cell.method: o for o in Journal(tmp_path / "o").outcomes()}
    assert ran[0] == "undefended-miniclip-vit-digits-clean" and outcomes["undefended"].n == 100
    if not go_on:
        assert result.exit_code == 2 and len(ran) == 1 and outcomes.keys() == {"undefended"}
        assert not (tmp_path / "night.md").exists()
        return
    assert result.exit_code == 0, result.output
    (note,) = [n for n in outcomes["rn"].notes if "control" in n]
    assert "did not hold: undefended on digits" in note and "99.00 there" in note
    assert "Controls do not hold" in (tmp_path / "night.md").read_text()
    assert json.loads((tmp_path / "night.json").read_text())["controls"]["numbers"][0]["verdict"] == "does not hold"
    assert "</a>: does not hold." in (tmp_path / "site" / "index.html").read_text()


def _embedded(value: float) -> Control:
    return Control.model_construct(
        source="clip-benchmark", method="undefended", protocol="clean", values={"digits": value}, mean=None,
        samples=100, measure="accuracy", decimals=2,
    )  # fmt: skip


def test_reachable_sets_are_those_that_a_night_can_read() -> None:
    assert datasets.is_reachable("digits") and gate.is_reachable is datasets.is_reachable
