"""The matrix: stable sorted ids, options, strict markers, blocked sockets."""

import socket

import pytest

from vlm_gauntlet.fixtures.errors import GauntletError
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
