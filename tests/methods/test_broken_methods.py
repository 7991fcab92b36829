"""One broken method takes down nothing else: it is named where it is asked for, and listed as unusable elsewhere."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vlm_gauntlet import methods as room
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.methods import listed, registry
from vlm_gauntlet.methods.registry import method, methods, unusable, without_unusable

RN = Path(registry.__file__).parent / "rn"
Plant = Callable[..., None]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A room with one good method, `good`, and one to be broken, `bad`; entry points are none."""
    monkeypatch.setattr(listed, "HERE", tmp_path)
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    monkeypatch.setattr(listed, "entry_points", lambda group: [])
    for name in ("good", "bad"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "__init__.py").touch()
        for file in ("card.toml", "method.py"):
            (folder / file).write_text((RN / file).read_text().replace('"rn"', f'"{name}"'))
    registry.parts.cache_clear()
    yield tmp_path
    registry.parts.cache_clear()
    for name in [n for n in sys.modules if n.startswith(("vlm_gauntlet.methods.good", "vlm_gauntlet.methods.bad"))]:
        del sys.modules[name]


CARD = (RN / "card.toml").read_text().replace('"rn"', '"bad"')
METHOD = (RN / "method.py").read_text()
FAULTS: dict[str, tuple[str, str | bytes | None, str, str]] = {
    "half-written": ("card.toml", 'id = "bad"\nname = "Bad"\n', "9 problems\n    paper: is missing", "bad/card.toml"),
    "unknown field": ("card.toml", CARD + "colour = 3\n", "colour: came 3; there is no such field", "bad/card.toml"),
    "bad value": ("card.toml", CARD.replace("2025", '"soon"'), "year: came 'soon'; expected a valid", "bad/card.toml"),
    "other id": ("card.toml", CARD.replace('"bad"', '"god"'), "card id 'god' in folder 'bad'", "bad/card.toml"),
    "no TOML": ("card.toml", "id = ", "Invalid value", "bad/card.toml"),
    "deep TOML": ("card.toml", "a = " + "[" * 5000, "nested too deeply", "bad/card.toml"),
    "no UTF-8": ("card.toml", b"\xff\xfe", "not in UTF-8: byte 0xff at place 0", "bad/card.toml"),
    "no card": ("card.toml", None, "cannot be read: No such file", "bad/card.toml"),
    "deviations": ("deviations.toml", "[[deviation]]\nname = 'x'\n", "choices: is missing", "bad/deviations.toml"),
    "no deviation": ("deviations.toml", "[[deviatoin]]\n", "'deviation' is missing", "bad/deviations.toml"),
    "measured": ("measured.toml", "year = 3\n", "year: came 3; there is no such field", "bad/measured.toml"),
    "pins": ("checkpoints.toml", "[x]\nsize = 'big'\n", "sha256: is missing", "bad/checkpoints.toml"),
    "syntax": ("method.py", "def f(:\n", "raises SyntaxError: invalid syntax", "method.py, line 1"),
    "import": ("method.py", "\nimport nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere", "line 2"),
    "exit": ("method.py", "import sys\nsys.exit(3)\n", "ends the program (SystemExit: 3)", "method.py, line 2"),
    "raise": ("method.py", "\n\n1 / 0\n", "ZeroDivisionError: division by zero", "method.py, line 3"),
    "bytes": ("method.py", b"\xff\xfe", "SyntaxError", "bad"),
    "no method": ("method.py", None, "a card without a method.py", "bad"),
    "none": ("method.py", "x = 1\n", "0 defences in method.py", "bad"),
    "two": ("method.py", METHOD + METHOD.replace("RandomNoise", "Other"), "2 defences in method.py", "bad"),
    "package": ("__init__.py", "raise RuntimeError('in the package')\n", "RuntimeError: in the package", "line 1"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_folder_is_named_and_the_rest_works(folders: Path, fault: str) -> None:
    file, text, came, where = FAULTS[fault]
    path = folders / "bad" / file
    path.unlink(missing_ok=True)
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    assert list(methods()) == ["good"] and list(unusable()) == ["bad"]
    assert method("good").card.id == "good"
    for name in ("bad", "bad+as_coded", "good@bad", "bad@good"):
        with pytest.raises(GauntletError) as caught:
            method(name)
        assert came in caught.value.came and caught.value.fix
        assert where in caught.value.where and str(folders) in caught.value.where
    assert "\n" not in unusable()["bad"].short
    assert "pydantic" not in str(unusable()["bad"])
    with pytest.raises(GauntletError, match="did you mean bad"):
        method("baad")
    usable, broken = without_unusable(["good", "good+as_coded", "good@bad", "bad+x=y"])
    assert usable == ["good", "good+as_coded"] and list(broken) == ["good@bad", "bad+x=y"]


@pytest.mark.parametrize("file", ["card.toml", "deviations.toml", "measured.toml", "checkpoints.toml", "method.py"])
@pytest.mark.parametrize("kind", ["a folder", "a link into nothing"])
def test_what_is_no_file_is_not_passed_over(folders: Path, file: str, kind: str) -> None:
    path = folders / "bad" / file
    path.unlink(missing_ok=True)
    path.mkdir() if kind == "a folder" else path.symlink_to(folders / "nowhere")
    assert list(methods()) == ["good"] and list(unusable()) == ["bad"]


def test_a_key_that_stops_the_program_still_does(folders: Path) -> None:
    (folders / "bad" / "method.py").write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        methods()


def test_the_error_does_not_grow_when_it_is_raised_again(folders: Path) -> None:
    (folders / "bad" / "method.py").write_text("1 / 0\n")
    depths = []
    for _ in range(3):
        with pytest.raises(GauntletError) as caught:
            method("bad")
        depths.append(len(caught.traceback))
    assert len(set(depths)) == 1
    assert isinstance(caught.value.__cause__, ZeroDivisionError), "what --debug shows"


MODULE = """
import sys
from vlm_gauntlet.methods.base import Defence

class Mine(Defence):
    def forward(self, images, prompts):
        return self.backbone(images, prompts)

NUMBER = 3

def __getattr__(name):
    if name == "Exit":
        sys.exit(4)
    raise AttributeError(name)
"""


@pytest.fixture
def plant(folders: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Installs packages with these lines of entry points, as an installer would leave them on the path."""
    monkeypatch.undo()  # entry points are real here; the folders too
    site = tmp_path_factory.mktemp("site")
    (site / "planted_defences.py").write_text(MODULE)
    (site / "planted_raises.py").write_text("raise OSError('a missing library')\n")
    monkeypatch.syspath_prepend(str(site))

    def write(**packages: str | bytes) -> None:
        for package, lines in packages.items():
            info = site / f"{package}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
            text = lines if isinstance(lines, bytes) else f"[vlm_gauntlet.methods]\n{lines}\n".encode()
            (info / "entry_points.txt").write_bytes(text)
        registry.parts.cache_clear()

    return write


def test_a_good_entry_point_is_a_method(plant: Plant) -> None:
    plant(other="mine = planted_defences:Mine")
    assert method("mine").card.paradigm == "external" and not unusable()


def test_a_built_in_keeps_its_name(plant: Plant) -> None:
    plant(other="ttc = planted_defences:Mine\nmine = planted_defences:Mine")
    assert method("ttc").card.id == "ttc" and method("mine").card.id == "Mine"
    ((name, error),) = unusable().items()
    assert name == "ttc (entry point planted_defences:Mine of other)"
    assert "the name of a built-in method, 'ttc'" in error.came and "methods/ttc" in error.where
    assert error.fix == "rename the entry point, or use it as --method planted_defences:Mine"
    assert registry.parts().outside == {name}


@pytest.mark.parametrize(
    ("lines", "came", "where"),
    [
        ("bad = planted_raises:Mine", "raises OSError: a missing library", "planted_raises:Mine of other"),
        ("bad = nowhere_at_all:Mine", "raises ModuleNotFoundError", "nowhere_at_all:Mine of other"),
        ("bad = planted_defences:Exit", "ends the program (SystemExit: 4)", "planted_defences:Exit of other"),
        ("bad = planted_defences:Nothing", "raises AttributeError", "planted_defences:Nothing of other"),
        ("bad = planted_defences:NUMBER", "loads 3", "planted_defences:NUMBER of other"),
        ("bad = planted_defences", "loads <module", "planted_defences of other"),
        ("bad = vlm_gauntlet.methods.base:Defence", "loads <class", "base:Defence of other"),
        ("bad = not an address", "entry point that raises", "not an address of other"),
    ],
)
def test_a_broken_entry_point_is_named_where_it_is_asked_for(plant: Plant, lines: str, came: str, where: str) -> None:
    plant(other=f"{lines}\nmine = planted_defences:Mine")
    assert {"ttc", "undefended"} <= set(methods()) and set(registry.parts().entries) == {"bad", "mine"}
    assert not unusable(), "whether it loads is not known before"
    with pytest.raises(GauntletError) as caught:
        method("bad")
    assert came in caught.value.came and where in caught.value.where and caught.value.fix


def test_a_name_that_nobody_could_ask_for_is_refused(plant: Plant) -> None:
    plant(other="bad@home = planted_defences:Mine\nmine = planted_defences:Mine")
    ((name, error),) = unusable().items()
    assert name == "bad@home" and "a method name with @" in error.came and set(registry.parts().entries) == {"mine"}


def test_two_packages_with_one_name_are_both_refused(plant: Plant) -> None:
    plant(one="twin = planted_defences:Mine", two="twin = planted_raises:Mine")
    assert "twin" not in registry.parts().entries and "ttc" in methods()
    with pytest.raises(GauntletError, match="2 entry points called 'twin'") as caught:
        method("twin")
    assert "of one and entry point" in caught.value.where


@pytest.mark.parametrize("text", [b"[vlm_gauntlet.methods]\nno equals sign\n", b"\xff\xfe\n"])
def test_a_list_that_no_parser_reads_costs_only_its_package(plant: Plant, text: bytes) -> None:
    plant(other="mine = planted_defences:Mine", torn=text)
    assert "ttc" in methods() and set(registry.parts().entries) == {"mine"}
    assert list(unusable()) == ["entry points of torn"]
