"""A retrieval outcome of a tower from outside is served while all files that it was made with are what they were."""

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from vlm_gauntlet.attacks.text.rules import WordSwap
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.suites.known_here import KnownHere
from vlm_gauntlet.suites.late_folder import REPLACED
from vlm_gauntlet.suites.plausible_retrieval import retrieval_doubts
from vlm_gauntlet.suites.retrieval import Setting, _run_here, cell_of, run_retrieval
from vlm_gauntlet.suites.retrieval_records import FOLDER, RetrievalBatch, RetrievalJournal, RetrievalOutcome
from vlm_gauntlet.suites.verify import CannotVerifyError
from vlm_gauntlet.suites.verify_retrieval import verify_retrieval

MODULE = """
import copy
from pathlib import Path
from vlm_gauntlet.methods.base import Defence

HERE = Path(__file__).parent

class Mine(Defence):
    def forward(self, images, prompts):
        return self.backbone(images, prompts)

    @property
    def tuned_backbone(self):
        tower = copy.copy(self.backbone)
        encode = self.backbone.encode_image

        def read(images):
            return float((HERE / "gain.txt").read_text()) * encode(images)

        tower.encode_image = read
        return tower
"""
RULES = WordSwap(source="characters", candidates=2)


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    """A tower that multiplies its features by what a file says, which it reads at each look."""
    folder = tmp_path_factory.mktemp("late") / "own"
    folder.mkdir()
    (folder / "mine.py").write_text(MODULE)
    gain(folder).write_text("1.0")
    address = f"{folder / 'mine.py'}:Mine"
    return Setting(address, "miniclip-vit", "emoji_captions", "sep", Fraction(2, 255), RULES, limit=2, batch_size=1)


@pytest.fixture(scope="module")
def first(setting: Setting, tmp_path_factory: pytest.TempPathFactory) -> RetrievalOutcome:
    return run_retrieval(setting, tmp_path_factory.mktemp("first"))


def gain(folder: Path) -> Path:
    return folder / "gain.txt"


def own(setting: Setting) -> Path:
    return gain(Path(setting.method).parent).resolve()


def test_its_files_are_on_record_and_one_that_changed_makes_it_unfinished(
    setting: Setting, first: RetrievalOutcome, tmp_path: Path
) -> None:
    path = own(setting)
    assert first.provenance.files == {str(path): sha256(b"1.0")}
    journal, here = RetrievalJournal(tmp_path), KnownHere([setting.method])
    journal.write(first)
    assert journal.find(first.key) == first
    assert not [doubt for doubt in retrieval_doubts(first, here) if "files" in doubt.meaning]
    path.write_text("2.0")
    try:
        assert journal.find(first.key) is None
        (doubt,) = [doubt for doubt in retrieval_doubts(first, here) if "files" in doubt.meaning]
        assert doubt.kind == "unknown here" and str(path) in doubt.meaning
        with pytest.raises(CannotVerifyError, match=rf"made with another .*{re.escape(path.name)}"):
            verify_retrieval(first, here)
        again = run_retrieval(setting, tmp_path)
    finally:
        path.write_text("1.0")
    assert again.key == first.key and again.provenance.files == {str(path): sha256(b"2.0")}
    (old,) = (tmp_path / FOLDER / REPLACED).iterdir()
    assert RetrievalOutcome.model_validate_json(old.read_bytes(), strict=True) == first
    assert journal.outcomes() == [again]


def test_batches_made_with_other_files_are_run_again(tmp_path: Path) -> None:
    (path := tmp_path / "a.txt").write_text("one")
    batch = RetrievalBatch(
        ids=("a",), clean=((1.0,),), attacked=((1.0,),), captions=("a",), changed=0,
        files={str(path): sha256(b"one")},
    )  # fmt: skip
    journal = RetrievalJournal(tmp_path / "o")
    journal.append("key", batch)
    assert journal.batches("key") == [batch]
    path.write_text("two")
    assert journal.batches("key") == [] and not journal.partial("key").exists()


def test_a_tower_of_this_project_reads_no_such_file(setting: Setting, first: RetrievalOutcome, tmp_path: Path) -> None:
    ours = run_retrieval(replace(setting, method="undefended"), tmp_path)
    assert ours.provenance.files == {}
    forged = ours.model_copy(update={"provenance": first.provenance})
    (doubt,) = [doubt for doubt in retrieval_doubts(forged, KnownHere([])) if "files" in doubt.meaning]
    assert doubt.kind == "impossible"


def test_a_killed_run_knows_with_which_files_its_batches_were_made(setting: Setting, tmp_path: Path) -> None:
    def kill(done: int, _: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run_here(setting, tmp_path, kill, "unknown")
    (batch,) = RetrievalJournal(tmp_path).batches(cell_of(setting).key)
    beside = {name: digest for name, digest in batch.files.items() if own(setting).parent in Path(name).parents}
    assert beside == {str(own(setting)): sha256(b"1.0")}, "in this process what other tests import may be read, too"
