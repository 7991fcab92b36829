"""Samples: few-shot fixed and fresh, sets in memory, streams; the batch of a step never depends on where one starts."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from vlm_gauntlet.fixtures.datasets import Dataset
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.training.samples import Batch, InMemory, Streamed, few_shots, open_samples, read_labels

from ..conftest import write_training_set


@pytest.fixture(scope="module")
def data(training_set: Path) -> Dataset:
    return Dataset("noise", training_set, split="train")


def test_few_shots_are_as_many_of_each_class_as_there_are() -> None:
    labels = torch.tensor([0] * 9 + [1] * 2 + [2] * 5)
    chosen = few_shots(labels, 4, 0)
    assert labels[chosen].bincount().tolist() == [4, 2, 4] and len(chosen.unique()) == len(chosen)
    assert not torch.equal(chosen, few_shots(labels, 4, 1))
    assert not torch.equal(chosen, few_shots(labels, 4, 0, 0))


def test_an_epoch_has_every_sample_once_and_the_next_has_another_order() -> None:
    rows = InMemory({"x": torch.arange(7)}, seed=2, digest="")
    drawn = [batch["x"].tolist() for batch in islice(rows.batches(3, 0), 4)]
    first, second = ([*drawn[i], *drawn[i + 1]] for i in (0, 2))
    assert len(set(first)) == len(set(second)) == 6 and first != second
    (batch,) = islice(rows.batches(3, 3), 1)
    assert batch["x"].tolist() == drawn[3]
    assert batch.keys == tuple(key_of(2, 3, i) for i in drawn[3])


def test_fresh_shots_change_with_the_epoch_and_fixed_ones_do_not(data: Dataset) -> None:
    def chosen(fresh: bool, epoch: int) -> set[bytes]:
        samples = open_samples(data, 16, seed=0, shots=2, fresh_shots=fresh)
        assert len(samples) == 10
        batches = islice(samples.batches(5, 2 * epoch), 2)
        return {picture.numpy().tobytes() for batch in batches for picture in batch["images"]}

    assert chosen(False, 0) == chosen(False, 1)
    assert chosen(True, 0) != chosen(True, 1)


def test_pictures_in_memory_are_those_of_the_set_as_bytes(data: Dataset) -> None:
    samples = open_samples(data, 16, seed=0)
    assert isinstance(samples, InMemory)
    (whole,) = data.batches(limit=None, batch_size=99, size=16)
    assert samples.tensors["images"].dtype == torch.uint8
    assert torch.equal(Batch(samples.tensors, ()).to(torch.device("cpu"))["images"], whole.images)
    assert torch.equal(samples.tensors["labels"], whole.labels) and torch.equal(read_labels(data), whole.labels)


def test_a_large_set_is_streamed_in_another_order_each_epoch(data: Dataset) -> None:
    samples = open_samples(data, 16, seed=0, in_memory=1000)
    assert isinstance(samples, Streamed) and len(samples) == 24
    drawn = list(islice(samples.batches(6, 0), 8))
    epochs = [[p.numpy().tobytes() for b in drawn[i : i + 4] for p in b["images"]] for i in (0, 4)]
    assert len(set(epochs[0])) == 24 and set(epochs[0]) == set(epochs[1]) and epochs[0] != epochs[1]
    known = open_samples(data, 16, seed=0)
    assert isinstance(known, InMemory)
    label_of = {p.numpy().tobytes(): int(y) for p, y in zip(*known.tensors.values(), strict=True)}
    assert all(
        label_of[p.numpy().tobytes()] == int(y) for b in drawn for p, y in zip(b["images"], b["labels"], strict=True)
    )
    for first in (1, 3, 6):
        resumed = next(samples.batches(6, first))
        assert torch.equal(resumed["images"], drawn[first]["images"]) and resumed.keys == drawn[first].keys


def test_a_stream_holds_a_buffer_and_not_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted where records leave the shards: a batch of 4 needs the buffer of 8, not the 40 of the set."""
    large = Dataset("large", write_training_set(tmp_path / "large", (20, 20), size=8), split="train")
    samples, read = Streamed(large, 8, length=40, seed=0, buffer=8), 0
    records = large.records

    def counted(shards: list[Path]):
        nonlocal read
        for record in records(shards):
            read += 1
            yield record

    monkeypatch.setattr(Dataset, "records", lambda self, shards=None: counted(shards))
    next(samples.batches(4, 0))
    assert 8 <= read <= 20


def test_parts_keep_samples_keys_and_shares_together() -> None:
    whole = Batch({"x": torch.arange(7), "y": torch.arange(14).view(7, 2)}, tuple(range(10, 17)))
    parts = whole.parts(3)
    assert [len(p.keys) for p in parts] == [3, 2, 2]
    assert sum(p.share for p in parts) == pytest.approx(1)
    assert torch.cat([p["x"] for p in parts]).tolist() == list(range(7))
    assert all(p.keys == tuple(10 + i for i in p["x"].tolist()) and len(p["y"]) == len(p.keys) for p in parts)


def test_what_cannot_be_trained_on_says_so(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="no train split"):
        open_samples(Dataset("none", tmp_path, split="train"), 16, seed=0)
    with pytest.raises(GauntletError, match="without classes"):
        captions = Path(__file__).parents[2] / "fixtures/miniclip_vit/wds/emoji_captions"
        open_samples(Dataset("captions", captions, split="test"), 16, seed=0)
    with pytest.raises(GauntletError, match="fresh shots of 24"):
        open_samples(data, 16, seed=0, shots=2, fresh_shots=True, in_memory=1000)
