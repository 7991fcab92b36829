"""An outcome of a defence from outside is served while all files that it was made with are what they were."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.records import Cost, Outcome, Sample
from vlm_gauntlet.methods.late_files import digest_of
from vlm_gauntlet.suites import running
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.journal import BatchResult, Journal
from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.late_folder import REPLACED
from vlm_gauntlet.suites.plausible import doubts
from vlm_gauntlet.suites.running import run_cell
from vlm_gauntlet.suites.verify import CannotVerifyError, verify

from ..methods.test_late_files import READS, WRITE, mine

NAMES = ("data.json", "data.npy", "data.pt", "data.safetensors", "helper_1.py")
HOW = ("open", "numpy", "torch", "safetensors", "computed name")
CELL = ["--backbone", "miniclip-vit", "--dataset", "digits", "--protocol", "clean", "--limit", "2"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A defence that reads in `forward`, by five doors."""
    return mine(tmp_path_factory.mktemp("late") / "own", "; ".join(READS[how][1] for how in HOW))


@pytest.fixture(scope="module")
def cell(address: str) -> CellPlan:
    (made,) = plan([address], "miniclip-vit", ["digits"], ["clean"], limit=2)
    return made


@pytest.fixture(scope="module")
def outcome(cell: CellPlan, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return run_cell(cell, Journal(tmp_path_factory.mktemp("first")))


@pytest.fixture
def journal(outcome: Outcome, tmp_path: Path) -> Journal:
    made = Journal(tmp_path / "o")
    made.write(outcome)
    return made


def own(address: str, name: str) -> Path:
    return Path(address).parent / name


@pytest.fixture
def restored(address: str) -> Iterator[None]:
    """Whatever a test does to the files, the next one finds them as they were."""
    before = {name: own(address, name).read_bytes() for name in NAMES}
    yield
    for name, content in before.items():
        own(address, name).write_bytes(content)


@pytest.mark.usefixtures("restored")
def test_a_changed_file_makes_the_cell_unfinished(address: str, outcome: Outcome, journal: Journal) -> None:
    assert outcome.provenance.files == {str(own(address, n)): digest_of(own(address, n)) for n in NAMES}
    for name in NAMES:
        before = own(address, name).read_bytes()
        assert journal.find(outcome.key) == outcome
        WRITE[name](own(address, name), 2.0)
        assert journal.find(outcome.key) is None, name
        own(address, name).write_bytes(before)


@pytest.mark.usefixtures("restored")
def test_the_board_and_a_verifier_see_it(address: str, outcome: Outcome) -> None:
    here = KnownHere([address])
    assert not doubts(outcome, here)
    WRITE["data.pt"](own(address, "data.pt"), 2.0)
    (doubt,) = doubts(outcome, here)
    assert doubt.kind == "unknown here" and str(own(address, "data.pt")) in doubt.meaning
    with pytest.raises(CannotVerifyError, match=r"made with another .*data\.pt"):
        verify(outcome, here, samples=1)


@pytest.mark.usefixtures("restored")
def test_it_runs_again_and_the_old_outcome_is_put_away(
    address: str, outcome: Outcome, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["run", "--method", address, *CELL, "--outcomes", str(journal.folder)]
    with monkeypatch.context() as patch:
        patch.setattr(running, "score_batch", lambda *_: pytest.fail("a finished cell was run again"))
        assert CliRunner().invoke(app, command).exit_code == 0
    WRITE["data.safetensors"](own(address, "data.safetensors"), 3.0)
    told = CliRunner().invoke(app, command)
    again = journal.find(outcome.key)
    assert told.exit_code == 0, told.output
    left = f"left out: 1 finished cell in {journal.folder}/{REPLACED}/, made with other files: data.safetensors"
    assert left in " ".join(told.output.split())
    assert again is not None and again.provenance.files != outcome.provenance.files and again.key == outcome.key
    (old,) = (journal.folder / REPLACED).iterdir()
    assert Outcome.model_validate_json(old.read_bytes(), strict=True) == outcome
    assert journal.outcomes() == [again]


def test_batches_made_with_other_files_are_run_again(tmp_path: Path) -> None:
    (path := tmp_path / "a.txt").write_text("one")
    cost = Cost(forward=1, backward=0, seconds=1.0)
    batch = BatchResult(
        samples=(Sample(id="a", label=0, clean=1, attacked=1),), telemetry={}, defence_cost=cost, attack_cost=cost,
        notes=(), files={str(path): digest_of(path)},
    )  # fmt: skip
    journal = Journal(tmp_path / "o")
    journal.append("key", batch)
    assert journal.batches("key") == [batch]
    path.write_text("two")
    assert journal.batches("key") == [] and not journal.partial("key").exists()


def test_older_records_validate(outcome: Outcome) -> None:
    record = json.loads(outcome.model_dump_json())
    del record["provenance"]["files"]
    assert Outcome.model_validate_json(json.dumps(record), strict=True).provenance.files == {}
