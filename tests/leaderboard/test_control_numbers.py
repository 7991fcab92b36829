"""Control numbers: planted outcomes that hold and that do not, what was not run, the page and the command."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.natural_sets import natural_sets, set_of
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.leaderboard import control_numbers as module
from vlm_gauntlet.leaderboard.control_numbers import BACKBONE, LIST, Control, control_numbers, held, standing
from vlm_gauntlet.leaderboard.controls_page import write_controls_page
from vlm_gauntlet.leaderboard.evidence import Evidence
from vlm_gauntlet.leaderboard.site import environment
from vlm_gauntlet.methods.released import of_label

from .factory import outcome

ONE = Control(source="clip-benchmark", method="undefended", protocol="clean", values={"cifar10": 89.82})
MEAN = Control(source="robustvlm", method="fare+released=eps1", protocol="aa-fare-white-box-linf-1-255", mean=38.0,
               samples=1000)  # fmt: skip


def planted(control: Control, dataset: str, share: float, n: int = 200, **more: object) -> Outcome:
    right = round(share * n)
    bits = "1" * right + "0" * (n - right)
    fields: dict[str, object] = {"method": control.method, "backbone": BACKBONE, "dataset": dataset, "clean": bits}
    return outcome(bits, control.protocol, **(fields | more))  # type: ignore[arg-type]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> None:
    sources, small = control_numbers()[0], {**natural_sets()}
    small["cifar10"] = small["cifar10"].model_copy(update={"samples": 1000})
    monkeypatch.setattr(module, "control_numbers", lambda: (sources, (ONE, MEAN)))
    monkeypatch.setattr(module, "natural_sets", lambda: small)


def sets() -> list[str]:
    return [set_of("VTAB", name) for name in known_datasets().list[LIST]]


def test_the_numbers_of_the_sources_are_all_there_and_name_what_can_run() -> None:
    controls = control_numbers()[1]
    assert sum(len(control.values) for control in controls if not control.recall) == 16
    assert sum(len(control.values) for control in controls if control.recall) == 4
    means = {(c.method, c.protocol): c.mean for c in controls if c.mean is not None}
    assert len(means) == 8 and means["tecoa+released=eps1", "clean"] == 53.1
    for method, _ in means:
        assert of_label(method, BACKBONE) is not None
    assert {"caltech101_vtab", "eurosat_vtab"} <= {*sets()} and len(sets()) == 13


@pytest.mark.parametrize(
    ("share", "n", "word"),
    [
        (0.898, 1000, "holds"), (0.903, 1000, "holds"), (0.904, 1000, "does not hold"), (0.893, 1000, "does not hold"),
        (0.86, 200, "holds"), (0.8, 200, "does not hold"), (0.1, 1000, "does not hold"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("only")
def test_a_whole_set_must_come_out_within_half_a_point_a_part_within_chance(share: float, n: int, word: str) -> None:
    found, mean = held([planted(ONE, "cifar10", share, n)])
    assert (found.word, found.n, mean.word) == (word, n, "not run")
    assert standing([found]) == word and standing([found, mean]) == ("not run" if word == "holds" else word)
    assert f"{100 * share:.2f} here, 89.82 there" in found.reason


@pytest.mark.usefixtures("only")
@pytest.mark.parametrize(
    "change", [{"backbone": "miniclip-vit"}, {"method": "tecoa"}, {"dataset": "caltech101"}, {"n": 50}]
)
def test_another_cell_is_no_control(change: dict[str, object]) -> None:
    assert held([planted(ONE, **{"dataset": "cifar10", "share": 0.8982, **change})])[0].word == "not run"  # type: ignore[arg-type]


@pytest.mark.usefixtures("only")
def test_of_several_outcomes_the_largest_speaks() -> None:
    few, many = planted(ONE, "cifar10", 0.5, 200), planted(ONE, "cifar10", 0.9, 1000)
    assert held([many, few])[0].word == held([few, many])[0].word == "holds"


@pytest.mark.parametrize(("share", "word"), [(0.38, "holds"), (0.40, "holds"), (0.45, "does not hold")])
@pytest.mark.usefixtures("only")
def test_a_mean_wants_all_sets_and_both_samples_chance(share: float, word: str) -> None:
    ran = [planted(MEAN, name, share) for name in sets()]
    assert held(ran)[1].word == word
    lacking = held(ran[1:])[1]
    assert lacking.word == "not run" and f"No outcome on {ran[0].cell.dataset}." in lacking.reason
    assert f"--dataset {ran[0].cell.dataset} " in lacking.command and "--limit 1000 " in lacking.command


def test_the_page_says_what_was_not_run_and_what_does_not_hold(tmp_path: Path) -> None:
    shared = {
        "made": "today",
        "count": 1,
        "retrieval": 0,
        "left_out": [],
        "nights": False,
        "evidence": Evidence(sound=[]),
    }
    write_controls_page(environment(), shared, held([planted(ONE, "cifar10", 0.5)]), tmp_path)
    text = (tmp_path / "controls.html").read_text()
    assert "Now: <strong>does not hold</strong>" in text and "gauntlet run --method fare+released=eps1" in text
    records = json.loads((tmp_path / "controls.json").read_text())
    assert len(records) == 28 and {r["verdict"] for r in records} == {"not run", "does not hold"}


def test_the_command_tells_what_would_run(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["controls", "--outcomes", str(tmp_path / "none")])
    assert result.exit_code == 0 and "together: not run" in result.stdout
    assert "--dataset imagenet" in result.stdout
