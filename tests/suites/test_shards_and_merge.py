"""Shards share the cells without gap or overlap, and merge to what one run gives."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.leaderboard.factory import outcome, retrieved
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.suites.cells import CellPlan, plan
from vlm_gauntlet.suites.journal import Journal
from vlm_gauntlet.suites.merging import merge
from vlm_gauntlet.suites.planning.passes import passes
from vlm_gauntlet.suites.planning.shards import longest_first, parse, shard
from vlm_gauntlet.suites.retrieval_records import RetrievalJournal

CELLS = plan(
    ["undefended", "ttc", "rn"], "miniclip-vit", ["digits", "fashion_mnist"],
    ["clean", "pgd-10-white-box-linf-16-255", "apgd-ce-20-white-box-linf-16-255"], limit=8,
)  # fmt: skip


@given(st.integers(1, 6))
def test_shards_are_the_cells(count: int) -> None:
    parts = [shard(CELLS, f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(c.id for part in parts for c in part) == [c.id for c in CELLS]
    assert all([c.id for c in part] == sorted(c.id for c in part) for part in parts)


def test_shards_are_of_about_equal_length() -> None:
    def length(part: list[object]) -> float:
        each = [passes(c.method, c.protocol, classes=10, backbone=c.backbone_name) for c in part]  # type: ignore[attr-defined]
        return sum(p.forward + p.backward for p in each if p)

    one, two = (length([*shard(CELLS, f"{number}/2")]) for number in (1, 2))
    assert abs(one - two) < 0.25 * (one + two)


def test_a_queue_begins_with_the_longest() -> None:
    def length(cell: CellPlan) -> float:
        each = passes(cell.method, cell.protocol, classes=10, backbone=cell.backbone_name)
        assert each is not None
        return each.forward + each.backward

    queue = longest_first(CELLS)
    assert [length(c) for c in queue] == sorted(map(length, CELLS), reverse=True)
    assert sorted(c.id for c in queue) == [c.id for c in CELLS] and queue == longest_first(CELLS[::-1])


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/0", "-1/2"])
def test_a_bad_shard_is_one_clear_error(text: str) -> None:
    with pytest.raises(GauntletError, match="a shard"):
        parse(text)


def test_shards_share_their_seed() -> None:
    with pytest.raises(GauntletError, match="secret seed"):
        shard(CELLS, "1/2", secret=True)


def test_folders_become_one(tmp_path: Path) -> None:
    one, two, out = (tmp_path / name for name in ("one", "two", "out"))
    first, second, both = (outcome("1100", dataset=name) for name in "abc")
    for folder, own in ((one, (first, both)), (two, (second, both))):
        for o in own:
            Journal(folder).write(o)
    RetrievalJournal(two).write(retrieved())
    (one / "archive").mkdir()
    (one / "archive" / f"{first.key}.safetensors").write_bytes(b"images")
    (two / f"{second.key}.partial.jsonl").touch()
    done = merge([one, two], out)
    assert (done.copied, done.same, done.kept, len(done.unfinished)) == (4, 1, (), 1)
    assert {o.key for o in Journal(out).outcomes()} == {first.key, second.key, both.key}
    assert [o.key for o in RetrievalJournal(out).outcomes()] == [retrieved().key]
    for path in (one / f"{first.key}.json", one / "archive" / f"{first.key}.safetensors"):
        assert (out / path.relative_to(one)).read_bytes() == path.read_bytes()
    again = merge([one, two], out)
    assert again.copied == 0 and {o.key for o in Journal(out).outcomes()} == {first.key, second.key, both.key}


def test_other_results_of_one_key_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    one, two, out = (tmp_path / name for name in ("one", "two", "out"))
    Journal(one).write(outcome("1111", dataset="good"))
    Journal(one).write(ours := outcome("1100"))
    Journal(two).write(outcome("1101"))
    with pytest.raises(GauntletError, match="different results") as error:
        merge([one, two], out)
    assert str(one / f"{ours.key}.json") in str(error.value) and str(two / f"{ours.key}.json") in str(error.value)
    assert not out.exists()


def test_what_is_no_folder_or_a_link_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GauntletError, match="no folder"):
        merge([tmp_path / "none"], tmp_path / "out")
    Journal(tmp_path / "one").write(made := outcome("11"))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / f"{made.key}.json").symlink_to(tmp_path / "one" / f"{made.key}.json")
    with pytest.raises(GauntletError, match="a link among outcomes"):
        merge([tmp_path / "two"], tmp_path / "out")
    (tmp_path / "two" / f"{made.key}.json").unlink()
    (tmp_path / "two" / f"{made.key}.json").write_text("{")
    with pytest.raises(GauntletError, match="does not validate"):
        merge([tmp_path / "one", tmp_path / "two"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
