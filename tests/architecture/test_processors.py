"""Moved bits are counted and printed, whoever moved them; only near-ties are forgiven."""

from pathlib import Path

import pytest
import torch

from vlm_gauntlet.suites.cells import plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.mini_claims import MiniClaim
from vlm_gauntlet.suites.running import run_cell

from .. import processors
from ..leaderboard.factory import outcome
from ..processors import NEAR, Moved, compare, margins, margins_of, report
from ..rounding import OtherRounding, between

BITS = "1101" * 5


def test_equal_bits_have_not_moved() -> None:
    made = outcome(BITS)
    assert compare([made], (MiniClaim.of(outcome(BITS * 2)),)) == (40, [], [])


def test_a_moved_bit_is_told_with_its_place() -> None:
    bits, moved, strange = compare([outcome("0" + BITS[1:])], (MiniClaim.of(outcome(BITS)),))
    assert bits == 40 and not strange
    assert [(m.place, m.kind, m.frozen, m.now) for m in moved] == [(0, "attacked", 1, 0)]
    _, moved, _ = compare([outcome(BITS, clean="1" * 19 + "0")], (MiniClaim.of(outcome(BITS)),))
    assert [(m.place, m.kind) for m in moved] == [(19, "clean")]


def test_what_nothing_is_frozen_of_is_not_counted() -> None:
    assert compare([outcome(BITS, seed=1)], (MiniClaim.of(outcome(BITS)),))[::2] == (0, [outcome(BITS).cell.id])


@pytest.mark.parametrize(("margin", "status", "said"), [(0.5 * NEAR, 0, ": a near-tie"), (2 * NEAR, 1, "NO near-tie")])
def test_a_near_tie_is_printed_and_forgiven_and_no_other(
    margin: float,
    status: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Journal(tmp_path).write(outcome("0" + BITS[1:]))
    monkeypatch.setattr(processors, "mini_claims", lambda: (MiniClaim.of(outcome(BITS)),))
    monkeypatch.setattr(processors, "margins_of", lambda bit: torch.tensor([-9 * margin, margin]))
    assert report(tmp_path, "avx2") == status
    told = capsys.readouterr().out
    assert (
        "1 of 40 outcome bits of 1 cells moved under avx2" in told and said in told and "0000 attacked: 1 -> 0" in told
    )


def test_a_coupled_batch_that_is_not_whole_is_not_compared() -> None:
    """A sample's bits then depend on its neighbours, whatever the processor."""
    whole, frozen = outcome("1" * 24), outcome("1" * 24)
    coupled = [o.model_copy(update={"cell": o.cell.model_copy(update={"batch_size": 24})}) for o in (whole, frozen)]
    part = coupled[0].model_copy(update={"samples": coupled[0].samples[:4]})
    reference = (MiniClaim.of(coupled[1]),)
    assert compare([part], reference) == (0, [], []) and compare([coupled[0]], reference) == (48, [], [])


def test_nothing_compared_is_a_failure(tmp_path: Path) -> None:
    assert report(tmp_path, "avx2") == 1


@pytest.mark.parametrize("name", ["rn", "clipure_cos+as_coded"])
@pytest.mark.parametrize("kind", ["clean", "attacked"])
def test_margins_are_positive_in_as_many_draws_as_the_sample_was_right_in(
    name: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of the last of five samples: alone where the defence takes them apart, in its batch where it does not."""
    (cell,) = plan([name], "miniclip-vit", ["fashion_mnist"], ["fgsm-white-box-linf-16-255"], limit=5, batch_size=5)
    made = run_cell(cell, Journal(tmp_path_factory.mktemp("o")))
    assert (made.cell.batch_size is None) == (name == "rn")
    for place in (1, 4):
        right = getattr(made.samples[place], kind)
        found = margins_of(Moved(made, place, kind, 0, right))
        assert len(found) == made.draws and int((found > 0).sum()) == right


def test_a_margin_is_a_share_of_the_range() -> None:
    logits = torch.tensor([[3.0, 1.0, -1.0], [0.0, 4.0, 2.0]])
    assert margins(logits, 0).tolist() == [0.5, -1.0]


def test_another_rounding_repeats_and_moves_no_more_than_an_ulp() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(7, 9, generator=generator), torch.rand(9, 5, generator=generator)
    plain = a @ b
    with OtherRounding(1):
        first, again, part = a @ b, a @ b, a[3:] @ b
    with OtherRounding(2):
        other = a @ b
    assert torch.equal(first, again) and not torch.equal(first, plain) and not torch.equal(first, other)
    assert not torch.equal(first[3:], part), "as another batch size may"
    torch.testing.assert_close(first, plain, rtol=2 * torch.finfo(torch.float32).eps, atol=0)


def test_a_threshold_stands_in_the_widest_gap() -> None:
    assert between(torch.tensor([1.0, 5.0, 2.0, 9.0])) == 7.0
    with pytest.raises(AssertionError, match="too close"):
        between(torch.tensor([1.0, 1.0 + 1e-6]))


def test_what_is_left_out_exists() -> None:
    suites = Path(__file__).parents[1] / "suites"
    assert all((suites / f"test_{part}.py").is_file() for part in processors.PLAIN)
