"""A cell gives the same bits whatever the batch size, the number of runs, or the moment of a kill."""

import copy
import io
import json
import tarfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vlm_gauntlet.attacks.pgd import PGD
from vlm_gauntlet.attacks.protocols import protocol, varied
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import Method, method
from vlm_gauntlet.suites import cells, running
from vlm_gauntlet.suites.batch import Evaluation, run_batch, score_batch
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.running import run_cell

from .in_process import stay_here

N = 10


@pytest.fixture
def tiny_set(tmp_path: Path) -> Dataset:
    """Ten random pictures in the webdataset layout."""
    folder = tmp_path / "wds" / "noise"
    (folder / "test").mkdir(parents=True)
    (folder / "classnames.txt").write_text("cat\ndog\nship\ntree\ncup\n")
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    generator = np.random.default_rng(0)
    with tarfile.open(folder / "test" / "0.tar", "w") as tar:
        for index in range(N):
            picture = io.BytesIO()
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(picture, "PNG")
            for suffix, data in (("png", picture.getvalue()), ("cls", str(index % 5).encode())):
                info = tarfile.TarInfo(f"s{index:04d}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return Dataset("noise", folder)


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch, tiny_backbone: Backbone, tiny_set: Dataset) -> CellPlan:
    """Random noise against PGD, through the whole path of a cell, in this process: it knows the tiny backbone."""
    monkeypatch.setattr(cells, "load_backbone", lambda name, device: tiny_backbone)
    monkeypatch.setattr(cells, "dataset", lambda name: tiny_set)
    stay_here(monkeypatch, running)
    (made,) = plan(["rn"], "tiny", ["noise"], ["pgd-10-white-box-linf-8-255"], limit=N, batch_size=4)
    return made


def test_same_command_twice_gives_the_same_bits(cell: CellPlan, tmp_path: Path) -> None:
    first, second = (run_cell(cell, Journal(tmp_path / name)) for name in ("a", "b"))
    assert first.bits_digest == second.bits_digest
    assert first.n == N and first.draws == 5


def test_batch_size_does_not_matter(
    cell: CellPlan, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64: of noise pictures and a random model, float32 sums in another order may turn a near-tie."""
    exact = copy.deepcopy(tiny_backbone).double()
    exact._text_cache.clear()
    monkeypatch.setattr(cells, "load_backbone", lambda name, device: exact)
    small, large = (run_cell(replace(cell, batch_size=b), Journal(tmp_path / str(b))) for b in (1, N))
    assert small.bits_digest == large.bits_digest


def test_finished_cells_come_from_the_journal(cell: CellPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "o")
    first = run_cell(cell, journal)
    monkeypatch.setattr(running, "score_batch", lambda *_: pytest.fail("a finished cell was run again"))
    assert run_cell(cell, journal) == first


@pytest.mark.parametrize("attack", ["pgd-10-white-box", "aa-rand-white-box", "aa-standard-white-box"])
def test_a_killed_run_loses_at_most_the_batch_in_flight(
    cell: CellPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: str
) -> None:
    recipe = protocol(f"{attack}-linf-8-255")
    cell = replace(cell, protocol=varied(recipe, steps=2, **({"eot": 2} if "rand" in attack else {})))
    undisturbed = run_cell(cell, Journal(tmp_path / "whole"))
    journal, ran = Journal(tmp_path / "killed"), []

    def counting(*arguments: object) -> object:
        ran.append(arguments)
        if len(ran) == 2:
            raise KeyboardInterrupt
        return score_batch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "score_batch", counting)
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, journal)
    (partial,) = journal.folder.glob("*.partial.jsonl")
    partial.write_bytes(partial.read_bytes() + b'{"samples": [')  # the kill came in the middle of a write
    resumed = run_cell(cell, journal)
    assert len(ran) == 1 + 1 + 2, "one finished batch, the one in flight twice, the last one"
    assert resumed.bits_digest == undisturbed.bits_digest
    assert not list(journal.folder.glob("*.partial.jsonl"))


@pytest.mark.parametrize(("finished", "size"), [(2, 3), (1, 3), (1, N)])
def test_another_batch_size_cannot_resume(
    cell: CellPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int, size: int
) -> None:
    journal, ran = Journal(tmp_path), []

    def stop(*arguments: object) -> object:
        ran.append(arguments)
        if len(ran) > finished:
            raise KeyboardInterrupt
        return score_batch(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "score_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        run_cell(cell, journal)
    with pytest.raises(GauntletError, match=f"batches of {size}"):
        run_cell(replace(cell, batch_size=size), journal)


def test_a_truncated_outcome_is_named_and_nothing_is_lost(cell: CellPlan, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    kept = run_cell(replace(cell, seed=1), journal)
    broken = tmp_path / f"{run_cell(cell, journal).key}.json"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(GauntletError, match="an outcome that does not validate") as error:
        journal.outcomes()
    assert str(broken) in str(error.value)
    assert journal.find(kept.key) == kept


def test_an_outcome_of_another_schema_is_one_clear_error(cell: CellPlan, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    path = tmp_path / f"{run_cell(cell, journal).key}.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "schema_version": 1, "cell": {"seed": 0}}))
    with pytest.raises(GauntletError, match="schema_version 1 is not 2") as error:
        journal.outcomes()
    assert "problems" not in str(error.value) and "move the file away and run again" in str(error.value)


def test_a_lying_outcome_does_not_validate(cell: CellPlan, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    path = tmp_path / f"{run_cell(cell, journal).key}.json"
    record = json.loads(path.read_text())
    record["cell"]["seed"] = 7
    path.write_text(json.dumps(record))
    with pytest.raises(GauntletError, match="not the digest of the cell"):
        journal.outcomes()


def test_an_attack_in_autocast_leaves_nothing_of_itself_in_the_scoring(
    cell: CellPlan, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    tiny_backbone._text_cache.clear()
    half = replace(cell, protocol=varied(cell.protocol, precision="amp-fp16"))
    outcome = run_cell(half, Journal(tmp_path / "half"))
    assert {weights.dtype for weights in tiny_backbone._text_cache.values()} == {torch.float32}
    usual = run_cell(cell, Journal(tmp_path / "full"))
    assert [s.clean for s in outcome.samples] == [s.clean for s in usual.samples]


def test_a_mean_loss_puts_the_batch_size_into_the_key(cell: CellPlan) -> None:
    averaged = replace(cell, protocol=varied(cell.protocol, reduction="mean"))
    assert cell.load().cell.batch_size is None
    assert averaged.load().cell.batch_size == cell.batch_size


def test_the_key_depends_on_everything(cell: CellPlan) -> None:
    base = cell.load().cell
    for field, value in {
        "seed": 1,
        "limit": 3,
        "dataset_digest": "x",
        "method_digest": "x",
        "code_digest": "x",
    }.items():
        assert base.model_copy(update={field: value}).key != base.key


def test_a_pseudo_label_is_the_models_own_answer(
    tiny_backbone: Backbone, tiny_set: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacked are then also the samples that were wrong, away from where they stand."""
    seen: list[Tensor] = []
    keep = PGD.perturb
    monkeypatch.setattr(PGD, "perturb", lambda self, run: seen.append(run.labels) or keep(self, run))
    undefended, prompts = method("undefended").build(tiny_backbone), tiny_set.prompts
    batch = next(tiny_set.batches(limit=N, batch_size=N, size=16))
    for name in ("pgd-10-transfer-linf-8-255", "pgd-10-pseudo-transfer-linf-8-255"):
        run_batch(Evaluation(undefended, undefended, prompts, protocol(name), 0), batch)
    assert torch.equal(seen[0], batch.labels)
    assert torch.equal(seen[1], tiny_backbone(batch.images, prompts).argmax(1))
    assert not torch.equal(*seen)


def test_a_defence_that_mixes_its_batch_is_seen(cell: CellPlan, tmp_path: Path, tiny_backbone: Backbone) -> None:
    class Mixing(Defence):
        """Adds the mean of the batch's logits to each."""

        def forward(self, images: Tensor, prompts: PromptSet) -> Tensor:
            logits: Tensor = self.backbone(images, prompts)
            return logits + 5 * logits.mean(0, keepdim=True)

    for defence, fires in ((Mixing, True), (method("undefended").defence, False)):
        made = run_cell(replace(cell, method=Method(defence.__name__, defence)), Journal(tmp_path / defence.__name__))
        assert next(i for i in made.indicators if i.name == "batch-dependent").fired == fires


def test_cells_whose_attack_needs_a_part_that_a_defence_lacks_are_left_out() -> None:
    known = protocol("pgd-20-adaptive-linf-8-255")
    asked = {"unrolled": ("ttc", "gradient", "unrolled"), "gate_margin": ("ttc", "evasion", Fraction(1)),
             "branch_logits": ("aom", "branches", Fraction(1))}  # fmt: skip
    for part, (having, field, value) in asked.items():
        changed = varied(known, **{field: value})
        lacking = [CellPlan(method(m), "b", "d", changed, 1, 0, "cpu", 1).missing_part for m in (having, "rn")]
        assert lacking == ["", part]
