"""The command teaches by example, answers machines in JSON, and says one clear thing when it cannot go on."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.fixtures.datasets import EMBEDDED
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.natural_sets import natural_sets
from vlm_gauntlet.fixtures.records import Cell
from vlm_gauntlet.suites import running

COMMANDS = ("run", "board", "check", "plan", "night", "merge", "health", "methods", "attacks", "datasets", "protocols",
            "backbones", "train", "train-miniclip", "findings", "controls", "doctor", "schema",
            "data get", "retrieval", "verify", "diff", "history", "compare",
            "export", "results test", "new")  # fmt: skip
CELL = ("--backbone", "miniclip-vit", "--dataset", "digits", "--protocol", "clean", "--limit", "4")

MINE = """
from vlm_gauntlet.methods.base import Defence

class Short(Defence):
    def forward(self, images, prompts):
        return self.backbone(images, prompts)[:, 1:]

class Mirror(Defence):
    def forward(self, images, prompts):
        return (self.backbone(images, prompts) + self.backbone(images.flip(-1), prompts)) / 2
"""


def gauntlet(*arguments: object, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], env=env, prog_name="gauntlet")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command: str) -> None:
    result = gauntlet(*command.split(), "--help")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert text.count(f"gauntlet {command}") >= 2, "one is the usage line, the other an example"


def test_the_front_page_names_every_command() -> None:
    page = gauntlet("--help").stdout
    assert all(command.split()[0] in page for command in COMMANDS)
    assert "gauntlet run --tier fast" in page


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, vlm_gauntlet.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("command", "expected"),
    [("methods", "tecoa"), ("attacks", "apgd-t"), ("datasets", "digits"), ("protocols", "clean"),
     ("backbones", "miniclip-vit")],
)  # fmt: skip
def test_lists_for_people_and_for_machines(command: str, expected: str) -> None:
    assert expected in gauntlet(command).stdout
    assert expected in {record["id"] for record in json.loads(gauntlet(command, "--json").stdout)}


def test_the_schema_is_that_of_an_outcome() -> None:
    schema = json.loads(gauntlet("schema").stdout)
    assert {"cell", "samples", "indicators", "provenance"} <= set(schema["required"])
    other = json.loads(gauntlet("schema", "retrieval").stdout)
    assert {"cell", "image_to_text", "text_to_image", "provenance"} <= set(other["required"])
    assert gauntlet("schema", "everything").exit_code == 2


def test_claims_are_listed_audited_and_judged(tmp_path: Path) -> None:
    listed = json.loads(gauntlet("claims", "--json").stdout)
    assert len(listed) >= 900 and {"id", "source", "table", "row", "column", "value", "tag"} <= set(listed[0])
    ours = json.loads(gauntlet("claims", "--source", "mmcoa", "--method", "tecoa", "--json").stdout)
    assert {(c["source"], c["method"]) for c in ours} == {("mmcoa", "tecoa")}
    found = json.loads(gauntlet("claims", "audit", "--json").stdout)
    assert {"rule", "severity", "cells", "values", "arithmetic", "sentence", "known"} == set(found[0])
    assert "findings" in gauntlet("claims", "audit").stdout
    judged = gauntlet("claims", "verdicts", "--outcomes", str(tmp_path), "--method", "undefended", "--json")
    assert {v["verdict"] for v in json.loads(judged.stdout)} == {"not run", "not checkable", "readings open"}
    mini = gauntlet("claims", "verdicts", "--outcomes", str(tmp_path), "--mini", "--method", "ttc")
    assert "This cell was not run." in mini.stdout


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (("claims", "--source", "mmco"), "did you mean mmcoa"),
        (("claims", "--method", "tekoa"), "did you mean tecoa"),
        (("claims", "freeze", "--outcomes", "nowhere"), "one JSON file a finished cell"),
        (("check", "tekoa"), "did you mean tecoa"),
        (("run", "--method", "undefnded", *CELL), "did you mean undefended?"),
        (("run", "--method", "ttc+gate=zero", *CELL), "did you mean gate_off?"),
        (("run", "--method", "ttc", "--dataset", "digts"), "did you mean digits"),
        (("run", "--method", "ttc", "--backbone", "miniclip-vut"), "did you mean miniclip-vit"),
        (("run", "--method", "ttc", "--protocol", "cleen"), "did you mean clean"),
        (("run", "--tier", "fats"), "did you mean fast?"),
        (("data", "get", "cifar11"), "did you mean cifar10"),
        (("train", "tekoa", "--backbone", "miniclip-vit", "--data", "."), "did you mean tecoa"),
    ],
)
def test_unknown_names_get_near_misses(arguments: tuple[str, ...], suggestion: str, tmp_path: Path) -> None:
    more = ("--outcomes", str(tmp_path)) if arguments[0] == "run" else ()
    result = gauntlet(*arguments, *more)
    assert result.exit_code == 2
    assert suggestion in result.stderr


def test_an_error_is_one_message_and_a_traceback_only_on_request() -> None:
    result = gauntlet("check", "tekoa")
    lines = result.stderr.splitlines()
    assert result.exit_code == 2 and result.stdout == ""
    assert lines[0] == "error: unknown method 'tekoa'"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["expected", "where", "fix"]
    assert isinstance(gauntlet("--debug", "check", "tekoa").exception, GauntletError)
    assert isinstance(gauntlet("check", "tekoa", env={"GAUNTLET_DEBUG": "1"}).exception, GauntletError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the GPU that the message is about")
def test_a_missing_gpu_is_said_before_anything_runs(tmp_path: Path) -> None:
    result = gauntlet("run", "--method", "ttc", *CELL, "--device", "cuda", "--outcomes", tmp_path)
    assert result.exit_code == 2 and "gauntlet doctor" in result.stderr
    assert not list(tmp_path.iterdir())


def test_methods_that_are_not_trained_say_so() -> None:
    result = gauntlet("train", "ttc", "--backbone", "miniclip-vit", "--data", ".")
    assert result.exit_code == 2 and "tecoa" in result.stderr


def test_a_switch_that_acts_on_a_checkpoint_is_not_trained() -> None:
    result = gauntlet("train", "tecoa+mix=0.5", "--backbone", "miniclip-vit", "--data", ".")
    assert result.exit_code == 2 and "mix changes no training" in result.stderr


def test_training_by_a_recipe_of_ones_own(tmp_path: Path) -> None:
    data = tmp_path / "digits"
    shutil.copytree(EMBEDDED / "digits", data)
    (data / "test").rename(data / "train")
    (tmp_path / "mine.toml").write_text(
        'epochs = 1\nbatch_size = 10\noptimiser = { name = "sgd", learning_rate = 0.01 }\n'
        'attack = { eps = "8/255", steps = 1, step_size = "8/255" }\n'
    )
    order = ("train", "tecoa", "--backbone", "miniclip-vit", "--data", data, "--shots", "2", "--out", tmp_path)
    result = gauntlet(*order, "--recipe", tmp_path / "mine.toml")
    assert result.exit_code == 0, result.output
    assert "--shots 2 --recipe" in result.stdout and 'trained_on = "digits"' in result.stdout
    assert len((tmp_path / "miniclip-vit.loss.csv").read_text().splitlines()) == 1 + 2
    assert "<svg" in (tmp_path / "miniclip-vit.loss.svg").read_text()
    unknown = gauntlet(*order, "--recipe", "reproductoin")
    assert unknown.exit_code == 2 and "did you mean reproduction" in unknown.stderr
    (tmp_path / "mine.toml").write_text("epochs = 1")
    broken = gauntlet(*order, "--recipe", tmp_path / "mine.toml")
    assert broken.exit_code == 2 and "mine.toml" in broken.stderr and "batch_size" in broken.stderr


def test_run_then_board(tmp_path: Path) -> None:
    run = ("run", "--method", "undefended", *CELL, "--outcomes", tmp_path / "o")
    first = gauntlet(*run)
    assert first.exit_code == 0, first.output
    (outcome,) = (tmp_path / "o").glob("*.json")
    before = outcome.stat().st_mtime_ns
    assert gauntlet(*run).exit_code == 0 and outcome.stat().st_mtime_ns == before, "a finished cell ran again"
    board = gauntlet("board", "--outcomes", tmp_path / "o", "--out", tmp_path / "site", "--text")
    assert board.exit_code == 0 and (tmp_path / "site" / "index.html").is_file()
    assert "miniclip-vit" in board.stdout and "digits" in board.stdout


def test_an_outcome_is_verified_or_differs_or_is_beyond_this_machine(tmp_path: Path) -> None:
    assert gauntlet("run", "--method", "undefended", *CELL, "--outcomes", tmp_path).exit_code == 0
    (path,) = tmp_path.glob("*.json")
    record = json.loads(path.read_text())
    fine = gauntlet("verify", path, "--samples", 2, "--by", "me", "--seed", 5)
    assert (
        fine.exit_code == 0
        and "verified 2 of 4 (chosen by seed 5)" in fine.stdout
        and "would have missed" in fine.stdout
    )
    kept = json.loads((tmp_path / f"{record['key']}.verified.json").read_text())["verifications"]
    assert [look["by"] for look in kept] == ["me"] and len(kept[0]["chosen"]) == 2
    assert json.loads(path.read_text()) == record, "the outcome stays as it was made"
    for sample in record["samples"]:
        sample |= {"clean": 1 - sample["clean"], "attacked": 1 - sample["attacked"]}
    (tmp_path / "forged").mkdir()
    forged = tmp_path / "forged" / "theirs.json"
    forged.write_text(json.dumps(record))
    wrong = gauntlet("verify", forged, "--no-record")
    assert wrong.exit_code == 1 and "differs: 4 of 4" in wrong.stdout and [*forged.parent.iterdir()] == [forged]
    text = path.read_text().replace(record["cell"]["code_digest"], "0" * 64)
    forged.write_text(text.replace(record["key"], Cell.model_validate(json.loads(text)["cell"], strict=False).key))
    beyond = gauntlet("verify", forged)
    assert beyond.exit_code == 2 and "cannot verify here: it was made with another code" in beyond.stderr
    forged.write_text("{")
    assert gauntlet("verify", forged).exit_code == 2 and gauntlet("verify", tmp_path / "no.json").exit_code == 2


def test_a_bad_file_among_good_ones_is_named_and_the_board_stands(tmp_path: Path) -> None:
    assert gauntlet("run", "--method", "undefended", *CELL, "--outcomes", tmp_path).exit_code == 0
    (tmp_path / "bad.json").write_text('{"key": ')
    result = gauntlet("board", "--outcomes", tmp_path, "--out", tmp_path / "site", "--text")
    assert result.exit_code == 0 and "undefended" in result.stdout and "set aside: bad.json" in result.stderr


def test_a_defence_from_elsewhere_ranks_where_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    name = f"{tmp_path / 'mine.py'}:Mirror"
    run = gauntlet("run", "--method", name, *CELL, "--outcomes", tmp_path / "o")
    assert run.exit_code == 0 and f"--text --method {name}" in run.stdout
    unnamed, named = (gauntlet("board", "--outcomes", tmp_path / "o", *more) for more in ((), ("--method", name)))
    assert "unknown here" in unnamed.stdout and "'Mirror' is not known here" in unnamed.stderr
    assert named.exit_code == 0 and "unknown here" not in named.stdout and not named.stderr
    (path,) = (tmp_path / "o").glob("*.json")
    assert gauntlet("verify", path).exit_code == 2
    assert gauntlet("verify", path, "--method", name).exit_code == 0


def test_missing_data_is_not_run_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAUNTLET_DATA", str(tmp_path / "nothing"))
    cell = ("run", "--method", "undefended", "--backbone", "miniclip-vit", "--protocol", "clean", "--limit", "2",
            "--outcomes", tmp_path / "o", "--dataset", "cifar10")  # fmt: skip
    alone, beside = gauntlet(*cell), gauntlet(*cell, "--dataset", "digits")
    for result in (alone, beside):
        assert "not run: undefended-miniclip-vit-cifar10-clean" in result.stdout
        assert "gauntlet data get cifar10" in result.stdout
    assert alone.exit_code == 1, "nothing ran"
    assert beside.exit_code == 0, "a set that is not here stops nothing else"


def test_a_hub_out_of_reach_is_tried_once_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def unreachable(architecture: str, **_: object) -> None:
        tries.append(architecture)
        raise OSError("name or service not known")

    monkeypatch.setattr("open_clip.create_model", unreachable)
    result = gauntlet("run", "--method", "undefended", "--method", "rn", *CELL,
                      "--backbone", "open_clip:ViT-B-32/laion2b_s34b_b79k", "--outcomes", tmp_path)  # fmt: skip
    assert result.exit_code == 1 and tries == ["ViT-B-32"]
    assert result.stdout.count("name or service not known") == 1, "one reason, said once for all its cells"
    for method in ("undefended", "rn"):
        assert f"{method}-open_clip:ViT-B-32/laion2b_s34b_b79k-digits-clean" in result.stdout


def test_data_that_was_fetched_is_data_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Colours:
        classes = ("red", "blue")

        def __init__(self, root: str, *, train: bool, download: bool) -> None:
            assert download and not train

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[Image.Image, int]:
            return Image.new("RGB", (32, 32), self.classes[index % 2]), index % 2

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Colours)
    small = natural_sets()["cifar10"].model_copy(update={"samples": 4, "classes": 2})
    monkeypatch.setattr("vlm_gauntlet.fixtures.data_expected.natural_sets", lambda: {"cifar10": small})
    fetched = gauntlet("data", "get", "cifar10", "--source", "torchvision", "--root", tmp_path)
    assert fetched.exit_code == 0, fetched.output
    assert str(tmp_path / "wds" / "cifar10") in fetched.stdout
    monkeypatch.setenv("GAUNTLET_DATA", str(tmp_path))
    run = gauntlet("run", "--method", "undefended", *CELL, "--dataset", "cifar10", "--outcomes", tmp_path / "o")
    assert run.exit_code == 0 and "undefended-miniclip-vit-cifar10-clean" in run.stdout


def test_stopping_says_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "score_batch", stop)
    result = gauntlet("run", "--method", "undefended", *CELL, "--outcomes", tmp_path)
    assert result.exit_code == 130
    assert "the same command goes on from there" in result.stderr


@pytest.mark.parametrize(("name", "verdict"), [("Mirror", "**conforms**"), ("Short", "**does not conform")])
def test_check_of_a_defence_by_path(name: str, verdict: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    result = gauntlet("check", f"{path}:{name}")
    assert verdict in result.stdout
    assert result.exit_code == (name == "Short")


def test_check_can_measure_instead(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    result = gauntlet("check", f"{path}:Mirror", "--measure")
    assert result.exit_code == 0, result.output
    lines = tomllib.loads(result.stdout)
    assert lines["cost"] == {"forward": 2, "backward": 0} and lines["attack_cost"] == {"forward": 3, "backward": 1}
    assert lines["timings"][0]["backbone"] == "miniclip-vit"


def test_the_doctor_looks_at_everything() -> None:
    result = gauntlet("doctor")
    assert result.exit_code == 0, result.output
    for word in ("torch", "open_clip", "autoattack", "threads", "miniclip-vit", "miniclip-cnn", "digits", "GiB free"):
        assert word in result.stdout


def test_the_doctor_sees_damaged_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object, **__: object) -> None:
        raise GauntletError("weights of 3 bytes", expected="more", where="here", fix="restore the file")

    monkeypatch.setattr("vlm_gauntlet.fixtures.backbones.load_backbone", damaged)
    result = gauntlet("doctor")
    assert result.exit_code == 1 and "weights of 3 bytes" in result.stdout and "restore the file" in result.stdout


def test_an_empty_folder_makes_no_board(tmp_path: Path) -> None:
    result = gauntlet("board", "--outcomes", tmp_path / "none", "--out", tmp_path / "site")
    assert result.exit_code == 2 and "no outcomes" in result.stderr
    assert not (tmp_path / "site").exists()


def test_an_installed_defence_does_not_stand_in_the_way_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no folder in the package, so that nothing may look for its `train` there."""
    from vlm_gauntlet.methods import registry

    monkeypatch.setitem(registry.parts().usable, "theirs", registry.methods()["rn"])
    result = CliRunner().invoke(app, ["train", "rn", "--backbone", "miniclip-vit", "--data", str(tmp_path)])
    assert "rn is not trained" in result.output and "tecoa" in result.output


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_takes_nothing_is_one_clear_error(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "somewhere")

    assert gauntlet("run", "--method", "undefended", *CELL, "--outcomes", tmp_path / "o").exit_code == 0
    monkeypatch.setattr("tempfile.mkstemp", fails)
    monkeypatch.setattr("tempfile.mkdtemp", fails)
    for command in (("run", "--method", "rn", *CELL, "--outcomes", tmp_path / "p"),
                    ("board", "--outcomes", tmp_path / "o", "--out", tmp_path / "site")):  # fmt: skip
        result = gauntlet(*command)
        assert result.exit_code == 2 and os.strerror(number) in result.stderr and "fix: " in result.stderr
        assert isinstance(result.exception, SystemExit)
    monkeypatch.setattr("vlm_gauntlet.leaderboard.evidence.gather", fails)  # where nobody thought of it
    result = gauntlet("board", "--outcomes", tmp_path / "o")
    assert result.exit_code == 2 and f"error: {os.strerror(number)}" in result.stderr and "somewhere" in result.stderr
