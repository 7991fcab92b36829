"""Two processes give what one gives, within the order of float32 sums; and mixed precision through the same loop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.training import engine as engines
from vlm_gauntlet.training.engine import Engine, start_engine
from vlm_gauntlet.training.trainer import fit

from .toy import Line, points, recipe

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from tests_toy import Line, points, recipe
from vlm_gauntlet.training.engine import start_engine
from vlm_gauntlet.training.trainer import fit

engine, out = start_engine("cpu", ranks=2), Path(sys.argv[1])
training = Line()
fit(training, recipe(accumulate=int(sys.argv[2])), points(), out, engine=engine)
save_file(dict(training.weights), out.with_name(f"rank{engine.rank}.safetensors"))
"""


def test_one_process_needs_no_engine() -> None:
    assert type(start_engine("cpu")) is Engine


def test_two_processes_give_the_checkpoint_of_one(tmp_path: Path) -> None:
    pytest.importorskip("lightning_fabric", reason='needs pip install "vlm-gauntlet[train]"')
    (tmp_path / "tests_toy.py").write_text((Path(__file__).parent / "toy.py").read_text())
    (tmp_path / "run.py").write_text(SCRIPT)
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "run.py"), str(tmp_path / "two" / "line.safetensors"), "2"]
    (tmp_path / "two").mkdir()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    one = Line()
    fit(one, recipe(), points(), tmp_path / "one.safetensors")
    ranks = [load_file(tmp_path / "two" / f"rank{rank}.safetensors") for rank in (0, 1)]
    for name, tensor in one.weights.items():
        assert torch.equal(ranks[0][name], ranks[1][name]), "the ranks agree to the bit"
        assert torch.allclose(ranks[0][name], tensor, atol=1e-6)
    losses = [
        [float(line.split(",")[3]) for line in path.read_text().splitlines()[1:]]
        for path in (tmp_path / "one.loss.csv", tmp_path / "two" / "line.loss.csv")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[1]) == 12


def test_mixed_precision_runs_through_the_same_loop() -> None:
    pytest.importorskip("lightning_fabric", reason='needs pip install "vlm-gauntlet[train]"')
    mixed, full = Line(), Line()
    fit(mixed, recipe(precision="bf16-mixed"), points(), None)
    fit(full, recipe(), points(), None)
    assert not torch.equal(mixed.w, full.w) and torch.allclose(mixed.w, full.w, atol=0.05)


def test_what_this_machine_cannot_do_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GauntletError, match="16-mixed on a CPU"):
        start_engine("cpu", precision="16-mixed")
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    with pytest.raises(UnavailableError, match="without Lightning Fabric") as raised:
        engines.start_engine("cpu", ranks=2)
    assert "vlm-gauntlet[train]" in raised.value.fix
