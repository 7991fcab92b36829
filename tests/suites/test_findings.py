"""Findings: figures by hand, judgements on each side of the bound, what is kept, and measures on a few samples."""

import csv
import json
import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites.findings import noise, registry
from vlm_gauntlet.suites.findings.finding import Figure, Finding, mean, rank_correlation, share
from vlm_gauntlet.suites.findings.scene import PLACES, Place, Scene

VIT = PLACES[0]


def stated(bound: float = 0.5, above: bool = True) -> Finding:
    return Finding("x", "says", "paper", "quantity", bound, above)


@pytest.mark.parametrize(
    ("low", "high", "above", "judgement"),
    [
        (0.6, 0.9, True, "holds"), (0.1, 0.4, True, "does not hold here"), (0.4, 0.6, True, "cannot be told"),
        (0.6, 0.9, False, "does not hold here"), (0.1, 0.4, False, "holds"), (0.5, 0.9, True, "cannot be told"),
    ],
)  # fmt: skip
def test_the_whole_interval_decides(low: float, high: float, above: bool, judgement: str) -> None:
    assert stated(above=above).judged(Figure((low + high) / 2, low, high, 9)) == judgement


def test_figures_by_hand() -> None:
    """Wilson for 3 of 4: [0.3006, 0.9544]. Mean of 0, 1: t = 12.706, s = 0.7071, so 0.5 +- 6.353."""
    found = share([True, True, True, False])
    assert (found.value, found.n) == (0.75, 4) and (found.low, found.high) == pytest.approx((0.3006, 0.9544), abs=1e-4)
    found = mean([0.0, 1.0])
    assert found.value == 0.5 and found.high == pytest.approx(6.853, abs=1e-3)
    assert rank_correlation([1, 2, 3, 4], [1, 8, 27, 64]).value == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]).value == pytest.approx(-1)
    assert math.isnan(rank_correlation([1, 2, 3], [1, 1, 2]).value) is False


def test_no_difference_in_a_few_samples_proves_nothing() -> None:
    found = mean([0.0] * 10)
    assert (found.value, found.low, found.high) == (0.0, -0.3, 0.3)
    assert stated(0.0).judged(found) == "cannot be told"


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=30))
def test_a_figure_lies_in_its_interval(values: list[float]) -> None:
    found = mean(values)
    assert found.low <= found.value <= found.high


def test_noise_that_moves_nothing_is_seen_as_equally_stable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacked images that are the clean ones drift alike: nobody is the stabler."""
    scene = Scene(VIT, 8)
    vars(scene)["attacked"] = scene.images
    assert noise.stabler(scene, scene.eps).value == 0.0
    assert noise.gained(scene).value == pytest.approx(
        sum(float(scene.right(scene.images + noise.SIGMA * scene.draws(c).normal(scene.images)).float().mean())
            for c in range(noise.LOOKS)) / noise.LOOKS - float(scene.right(scene.images).float().mean()), abs=1e-6
    )  # fmt: skip


def test_drift_by_hand() -> None:
    """With an encoder of one number, the mean, noise n moves the feature m by |mean n| / m."""
    scene = Scene(VIT, 4)
    features = scene.images.mean((1, 2, 3))
    vars(scene)["backbone"] = type(
        "Mean", (), {"encode_image": staticmethod(lambda x: x.mean((1, 2, 3))[:, None]), "image_size": 32}
    )()
    vars(scene)["_samples"] = (scene.images * 0 + 0.5, scene.labels, scene.keys)
    moved = scene.draws().uniform(scene.images, -0.1, 0.1).mean((1, 2, 3)).abs() / 0.5
    assert noise.drift(scene, scene.images, 0.1).tolist() == pytest.approx(moved.tolist(), rel=1e-4)
    assert len(features) == 4


@pytest.mark.parametrize("name", [name for name, one in registry.findings().items() if one.measure])
def test_every_measure_runs_on_a_few_samples(name: str) -> None:
    found = registry.measure(registry.finding(name), VIT, limit=10)
    assert found is not None and found.low <= found.value <= found.high and found.n >= 2


def test_what_is_kept_is_known_and_of_a_known_place() -> None:
    lines = registry.measured()
    places = {(p.backbone, p.dataset, str(p.eps)) for p in PLACES}
    assert {line.finding for line in lines} <= registry.findings().keys()
    assert {(line.backbone, line.dataset, line.eps) for line in lines} <= places
    assert len({(line.finding, line.backbone) for line in lines}) == len(lines)
    measurable = {name for name, one in registry.findings().items() if one.measure}
    assert measurable <= {line.finding for line in lines}, "gauntlet findings --measure"
    assert all(one.why_not for one in registry.findings().values() if one.measure is None)


def test_a_torn_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "measured.csv"
    path.write_text(",".join(registry.COLUMNS) + "\nfalse-stability,b,d,1/255,8,0.9,0.1,0.5\n")
    with pytest.raises(GauntletError, match="outside its interval"):
        registry.measured(path)


def test_the_command_lists_measures_and_knows_near_misses(tmp_path: Path) -> None:
    run = CliRunner().invoke
    told = json.loads(run(app, ["findings", "--json"]).output)
    assert {line["finding"] for line in told} == registry.findings().keys()
    made = run(app, ["findings", "noise-helps", "--measure", "--limit", "4", "--backbone", VIT.backbone,
                     "--out", str(tmp_path / "m.csv")])  # fmt: skip
    (line,) = csv.DictReader((tmp_path / "m.csv").read_text().splitlines())
    assert made.exit_code == 0 and (line["finding"], line["n"], line["eps"]) == ("noise-helps", "4", "16/255")
    assert "did you mean noise-helps" in run(app, ["findings", "noise-help"]).output


def test_places_without_data_are_said_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PLACES", (Place("miniclip-vit", "pacs_photo", Fraction(1, 255)),))
    monkeypatch.delenv("GAUNTLET_DATA", raising=False)
    result = CliRunner().invoke(app, ["findings", "noise-helps", "--measure", "--limit", "4"])
    assert result.exit_code in (0, 2) and "pacs_photo" in result.output
