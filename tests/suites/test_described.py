"""The code of a defence from outside is never imported by the command: whatever it does there costs its own cells."""

import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from vlm_gauntlet.cli.main import app
from vlm_gauntlet.leaderboard.rows import card_of
from vlm_gauntlet.methods import listed, registry
from vlm_gauntlet.methods.registry import from_outside, method
from vlm_gauntlet.suites import described as module
from vlm_gauntlet.suites.apart import Limits
from vlm_gauntlet.suites.described import Described, described, parts

MODULE = """
import os, signal, sys, time
from pathlib import Path
from vlm_gauntlet.methods.base import Defence

with open(__file__ + ".pids", "a") as log:
    log.write(f"{os.getpid()}\\n")
LINE

class Mine(Defence):
    def forward(self, images, prompts):
        return self.backbone(images, prompts)

    def unrolled(self, images, prompts):
        return self.forward(images, prompts)
"""
FAULTS = {
    "vanishes": ("os._exit(0)", "the process ended without a report, with exit code 0"),
    "leaves": ("sys.exit(0)", "ends the program (SystemExit: 0)"),
    "hangs": ("time.sleep(600)", "no answer within 10 s"),
    "eats": ("bytearray(16 * 2**30)", "MemoryError"),
    "raises": ("1 / 0", "ZeroDivisionError"),
    "dies": ("os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
}
SECOND = "len(Path(__file__ + '.pids').read_text().split()) > 1 and os._exit(0)"
CELL = ["--backbone", "miniclip-vit", "--dataset", "digits", "--protocol", "clean", "--limit", "2"]


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test can wait for."""
    monkeypatch.setattr(module, "LIMITS", Limits(seconds=10, memory=2 * 2**30))


def planted(folder: Path, name: str, line: str) -> str:
    """The address of a defence whose module does something at its import."""
    (folder / f"{name}.py").write_text(MODULE.replace("LINE", line))
    return f"{folder / name}.py:Mine"


def gauntlet(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], prog_name="gauntlet")


def importers(folder: Path) -> set[int]:
    """Processes that imported a planted module."""
    return {int(pid) for log in folder.glob("*.pids") for pid in log.read_text().split()}


def test_cells_beside_whatever_an_import_does_run(tmp_path: Path) -> None:
    names = {fault: planted(tmp_path, fault, line) for fault, (line, _) in FAULTS.items()}
    names["second"] = planted(tmp_path, "second", SECOND)
    asked = [part for name in ("undefended", *names.values()) for part in ("--method", name)]
    result = gauntlet("run", *asked, *CELL, "--outcomes", tmp_path / "o")
    assert result.exit_code == 1 and "1 outcomes in" in result.stdout
    for fault, (_, said) in FAULTS.items():
        (line,) = (line for line in result.stdout.splitlines() if line.startswith(f"not run: {names[fault]},"))
        assert said in line
    assert "failed: Mine-miniclip-vit-digits-clean" in result.stderr and "ended without a report" in result.stderr
    assert os.getpid() not in importers(tmp_path)
    assert len(list((tmp_path / "o").glob("*.json"))) == 1


@pytest.mark.parametrize("fault", ["vanishes", "second"])
def test_alone_it_is_one_clear_error(fault: str, tmp_path: Path) -> None:
    name = planted(tmp_path, fault, SECOND if fault == "second" else FAULTS[fault][0])
    result = gauntlet("run", "--method", name, *CELL, "--outcomes", tmp_path / "o")
    assert result.exit_code == 2 and "ended without a report, with exit code 0" in result.stderr
    assert not list(tmp_path.glob("o/*.json"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_check_of_it_fails(fault: str, tmp_path: Path) -> None:
    line, said = FAULTS[fault]
    result = gauntlet("check", planted(tmp_path, fault, line))
    assert result.exit_code == 2 and said in " ".join(result.stderr.split())


@pytest.mark.parametrize("more", [(), ("--outcomes", "o"), ("--measure",)])
def test_a_check_of_what_ends_the_second_import_fails(
    more: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = gauntlet("check", planted(tmp_path, "second", SECOND), *more)
    assert result.exit_code in (1, 2) and "ended without a report, with exit code 0" in result.output
    assert os.getpid() not in importers(tmp_path)


def test_no_command_imports_it(tmp_path: Path) -> None:
    name, o = planted(tmp_path, "mine", "pass"), tmp_path / "o"
    assert gauntlet("run", "--method", name, *CELL, "--outcomes", o).exit_code == 0
    (path,) = o.glob("*.json")
    for command in (("board", "--outcomes", o, "--text"), ("verify", path, "--samples", 1), ("check",)):
        option = () if command == ("check",) else ("--method",)
        result = gauntlet(*command, *option, name)
        assert result.exit_code == 0, result.output
    assert gauntlet("train", name, "--backbone", "miniclip-vit", "--data", tmp_path).exit_code == 2
    assert gauntlet("retrieval", "--attack", "sep", "--method", name, "--limit", 1).exit_code == 2
    assert len(importers(tmp_path)) > 4 and os.getpid() not in importers(tmp_path)


def test_what_is_told_is_what_the_code_says(tmp_path: Path) -> None:
    name = planted(tmp_path, "mine", "pass")
    told = described(name)
    assert isinstance(told, Described) and told.outside and described(name) is told
    assert (told.offers("unrolled"), told.offers("relaxed")) == (True, False)
    own = method(name)
    assert (told.label, told.card) == (own.label, own.card)


def test_a_name_tells_whose_code_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.parts().entries, "theirs", EntryPoint("theirs", "elsewhere:Mine", listed.GROUP))
    foreign = ("mine.py:Mine", "elsewhere:Mine", "theirs", "ttc@mine.py:Mine", "mine.py:Mine+a=b@tecoa", "ttc@theirs",
               "vlm_gauntlet_of_others:Mine", "methods/rn/method.py:RandomNoise")  # fmt: skip
    assert all(map(from_outside, foreign))
    assert not any(map(from_outside, ("ttc", "ttc+as_coded@tecoa", "vlm_gauntlet.methods.rn.method:RN", "nobody")))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with an installed package, which brings one good defence and one that ends whoever imports it."""
    for name, line in (("good", "pass"), ("bad", "os._exit(0)")):
        planted(tmp_path, f"installed_{name}", line)
    (info := tmp_path / "other-1.0.dist-info").mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[vlm_gauntlet.methods]\ngood = installed_good:Mine\nbad = installed_bad:Mine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for cached in (registry.parts, listed.parts, parts, card_of):
        cached.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    for cached in (registry.parts, listed.parts, parts, card_of):
        cached.cache_clear()


def test_an_installed_defence_is_listed_and_runs_elsewhere(site: Path) -> None:
    assert list(parts().usable) == ["good"] and list(parts().unusable) == ["bad"] == [*parts().outside]
    listed = gauntlet("methods")
    assert "good" in listed.stdout and "unusable: bad: import of bad: the process ended" in listed.stdout
    result = gauntlet("run", "--method", "good", "--method", "bad", *CELL, "--outcomes", site / "o")
    assert result.exit_code == 1 and "not run: bad, which was asked for" in result.stdout
    assert "1 outcomes in" in result.stdout and "good-miniclip-vit-digits-clean" in result.stdout
    assert card_of("good") == parts().usable["good"].card and card_of("bad") is None
    assert importers(site) and os.getpid() not in importers(site)
