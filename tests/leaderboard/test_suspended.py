"""While a control number does not hold, no outcome on that backbone counts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.natural_sets import natural_sets
from vlm_gauntlet.leaderboard import control_numbers as numbers
from vlm_gauntlet.leaderboard.control_numbers import Control
from vlm_gauntlet.leaderboard.evidence import gather
from vlm_gauntlet.suites.known_here import KnownHere

LIMIT = 12


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outcomes")
    words = (
        f"run --tier fast --method undefended --dataset fashion_mnist --protocol clean --limit {LIMIT} "
        f"--protocol fgsm-white-box-linf-16-255 --outcomes {folder}"
    )
    assert CliRunner().invoke(app, words.split()).exit_code == 0
    return folder


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch):
    """Plants what a source measured of the clean model; miniclip-vit stands for real CLIP."""

    def plant(share: float) -> None:
        one = Control(source="clip-benchmark", method="undefended", protocol="clean", values={"cifar10": 100 * share})
        control = one.model_copy(update={"values": {"fashion_mnist": 100 * share}})
        sets = {**natural_sets(), "fashion_mnist": natural_sets()["cifar10"]}
        sources = numbers.control_numbers()[0]
        monkeypatch.setattr(numbers, "control_numbers", lambda: (sources, (control,)))
        monkeypatch.setattr(numbers, "natural_sets", lambda: sets)
        for name, value in (("BACKBONE", "miniclip-vit"), ("LEAST", LIMIT), ("Z", 0.0)):
            monkeypatch.setattr(numbers, name, value)

    return plant


def test_nothing_counts_where_a_control_fails_and_the_numbers_are_still_told(outcomes: Path, there) -> None:
    clean = next(o for o in gather(outcomes, KnownHere()).sound if o.cell.protocol.id == "clean").clean_accuracy
    there(clean - 0.2)
    found = gather(outcomes, KnownHere())
    assert not found.sound and len(found.unranked) == 2 and found.suspended == {o.key for o in found.unranked}
    assert all("control number does not hold" in found.problem(o) for o in found.unranked)
    assert {row.state for row in found.rows()} == {"unknown here"} and not any(row.worst for row in found.rows())
    assert [one.word for one in found.controls] == ["does not hold"]


def test_all_counts_where_it_holds(outcomes: Path, there) -> None:
    clean = next(o for o in gather(outcomes, KnownHere()).sound if o.cell.protocol.id == "clean").clean_accuracy
    there(clean)
    found = gather(outcomes, KnownHere())
    assert len(found.sound) == 2 and not found.unranked and [one.word for one in found.controls] == ["holds"]
