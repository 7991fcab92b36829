"""The matrix: stable sorted ids, options, strict markers, blocked sockets."""

import socket

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites import plugin
from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.tiers import TIERS, tier

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("name", TIERS)
def test_ids_are_sorted_unique_and_stable(name: str) -> None:
    chosen = tier(name)
    first, second = (
        [c.id for c in plan(chosen.methods, chosen.backbone, chosen.datasets, chosen.protocols, limit=1)] for _ in "ab"
    )
    assert first == second == sorted(set(first))
    assert {chosen.control_protocol, chosen.adaptive_protocol} <= set(chosen.protocols)


@pytest.mark.parametrize(
    ("call", "suggestion"),
    [
        (lambda: plan(["tekoa"], "miniclip-vit", ["digits"], ["clean"], limit=1), "tecoa"),
        (lambda: plan(["ttc"], "miniclip-vit", ["digits"], ["pgd-10-transfer-linf-8"], limit=1), "pgd-10-transfer"),
        (
            lambda: plan(["ttc+gate=x"], "miniclip-vit", ["digits"], ["clean"], limit=1)[0].method.build(None),
            "gate_off",
        ),
        (lambda: tier("fasst"), "fast"),
    ],
)
def test_unknown_names_get_near_misses(call, suggestion: str) -> None:
    with pytest.raises(GauntletError, match=suggestion):
        call()


def test_sockets_are_blocked() -> None:
    with pytest.raises(GauntletError, match="network connection"), socket.socket() as client:
        client.connect(("127.0.0.1", 9))


def test_collection_selects_by_marker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_cell(cell_plan): pass")
    arguments = [
        "-p",
        "vlm_gauntlet.suites.plugin",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "--outcomes",
        "o",
    ]
    fast = pytester.runpytest_inprocess(*arguments, "-m", "fast").outlines
    default = pytester.runpytest_inprocess(*arguments).outlines
    ids = [line for line in fast if "::test_cell[" in line]
    assert ids and all("[fast-" in line for line in ids)
    assert [line for line in default if "::test_cell[" in line] == ids, "without -m, only the fast tier runs"


def test_an_unknown_method_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_cell(cell_plan): pass")
    result = pytester.runpytest_subprocess("-p", "vlm_gauntlet.suites.plugin", "--method", "tekoa")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*did you mean tecoa*"])


class Planned:
    """Notes for which tiers cells were planned."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tiers: list[str] = []
        monkeypatch.setattr(plugin, "_cells", self.cells)

    def cells(self, config: pytest.Config, name: str) -> list[object]:
        self.tiers.append(name)
        marks = [*plugin._marks(name)]
        return [
            pytest.param(1, id=f"{name}-plain", marks=marks),
            pytest.param(2, id=f"{name}-adaptive", marks=[*marks, pytest.mark.adaptive]),
        ]


@pytest.mark.parametrize(
    "asked",
    ["", "fast", "nightly", "not fast", "fast or mini", "gpu", "network and not full", "adaptive", "fast and adaptive",
     "full and not adaptive", "mine", "not mine", "mini and (adaptive or gpu)"],
)  # fmt: skip
def test_only_tiers_that_can_be_selected_are_planned_and_nothing_is_lost(
    asked: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same tests as where everything is planned, and fewer plans wherever a tier has no part in them."""
    pytester.makepyfile(
        "import pytest\ndef test_cell(cell_plan): pass\n@pytest.mark.mine\ndef test_own(cell_plan): pass"
    )
    planned = Planned(monkeypatch)
    arguments = ["-p", "vlm_gauntlet.suites.plugin", "--collect-only", "-q", "-p", "no:cacheprovider",
                 *(["-m", asked] if asked else []), "--outcomes", "o"]  # fmt: skip

    def selected() -> list[str]:
        return [
            line for line in pytester.runpytest_inprocess(*arguments).outlines if "[" in line and "NOTSET" not in line
        ]

    lazily, lazy = selected(), {*planned.tiers}
    monkeypatch.setattr(plugin, "_selectable", lambda *_: True)
    assert selected() == lazily
    assert lazy == {line.partition("[")[2].partition("-")[0] for line in lazily}, "no tier is planned in vain"


@pytest.mark.parametrize("chosen", [["-k", "nightly"], ["test_it.py::test_cell"]])
def test_whoever_names_tests_gets_every_tier(
    chosen: list[str], pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile(test_it="def test_cell(cell_plan): pass")
    planned = Planned(monkeypatch)
    pytester.runpytest_inprocess(
        "-p", "vlm_gauntlet.suites.plugin", "--collect-only", "-q", "-p", "no:cacheprovider", "--outcomes", "o", *chosen
    )
    assert planned.tiers == list(TIERS)


def test_shards_of_the_matrix_are_the_matrix() -> None:
    def ids(part: str | None) -> list[str]:
        asked = {"--method": ["rn", "undefended"], "--shard": part, "--device": "cpu"}
        config = type("Config", (), {"getoption": staticmethod(lambda name: asked.get(name))})
        return [cell.id for cell in plugin.cells_of(config(), "fast")]

    one, two = ids("1/2"), ids("2/2")
    assert one and two and sorted(one + two) == ids(None)
    with pytest.raises(pytest.UsageError, match="a shard '3/2'"):
        plugin._check_names(None, None, "3/2")


MATRIX = """
from vlm_gauntlet.suites.conftest import clean, journal, keeper
from vlm_gauntlet.suites.test_controls import control

def test_a_control(tier_name, control):
    control("undefended", "fgsm-white-box-linf-16-255", dataset="digits")

from vlm_gauntlet.suites.test_matrix import test_cell
"""


def test_attacked_images_are_kept_whichever_test_runs_a_cell_first(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MATRIX)
    names = ["--method", "undefended", "--dataset", "digits", "--protocol", "fgsm-white-box-linf-16-255"]
    options = ["-p", "vlm_gauntlet.suites.plugin", "-p", "no:cacheprovider", "--outcomes", "o", "--limit", "2", *names]
    result = pytester.runpytest_subprocess(*options, "--protocol", "clean", "-m", "fast", "--archive", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(["*attacked images in its folder archive*", "*test_a_control*", "*test_cell*"])
    found = {path.stem: '"id": "clean"' not in path.read_text() for path in (pytester.path / "o").glob("*.json")}
    kept = {path.stem for path in (pytester.path / "o" / "archive").glob("*.safetensors")}
    assert len(found) == 2 and kept == {key for key, attacked in found.items() if attacked}, "of a clean cell none"
