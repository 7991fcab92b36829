"""What a training sees, step by step: sets in memory as bytes, few-shot ones, and streams too large for memory.

The batch of a step depends on seed and step alone, so that a resumed run and every rank see the same.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor
from webdataset import filters

from vlm_gauntlet.fixtures.datasets import Dataset, decode, to_tensor
from vlm_gauntlet.fixtures.draws import key_of
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.files import sha256

IN_MEMORY = 4 << 30  # bytes of pictures that are kept; more are streamed
BUFFER = 4096  # undecoded pictures that a stream is shuffled in


@dataclass(frozen=True)
class Batch:
    """Tensors [B, ...] by name (`images`, `labels`, ...), one random key a sample.

    Args:
        share: of the whole batch, where this is a part of it.
    """

    tensors: Mapping[str, Tensor]
    keys: tuple[int, ...]
    share: float = 1.0

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def parts(self, count: int) -> list["Batch"]:
        """The batch in `count` parts of nearly equal size; their shares sum to this one's."""
        if count == 1:
            return [self]
        index = [i.tolist() for i in torch.arange(len(self.keys)).tensor_split(count)]
        return [
            Batch(
                {name: tensor[i] for name, tensor in self.tensors.items()},
                tuple(self.keys[j] for j in i),
                self.share * len(i) / len(self.keys),
            )
            for i in index
        ]

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; bytes become floats in [0,1]."""
        moved = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        return Batch(
            {n: t.float() / 255 if t.dtype == torch.uint8 else t for n, t in moved.items()}, self.keys, self.share
        )


class Samples(ABC):
    """A training set in the order of its seed.

    Attributes:
        digest: revision of the data.
        seed: of order, choice of shots, and keys.
        generators: streams that the batches are drawn from, whose state is part of where a training stands.
    """

    digest: str
    seed: int
    generators: Mapping[str, torch.Generator] = {}

    @abstractmethod
    def __len__(self) -> int:
        """Samples of an epoch."""

    @abstractmethod
    def batches(self, size: int, first: int) -> Iterator[Batch]:
        """Batches of `size` from step `first` on, without end."""


class InMemory(Samples):
    """Tensors [N, ...] by name, pictures as bytes; a permutation an epoch, the rest of N / size dropped.

    Args:
        fresh_shots: each epoch has so many samples of each class (`labels`), drawn anew; default: all.
        purpose: what the order's key is made of beside seed and epoch.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        *,
        seed: int,
        digest: str,
        fresh_shots: int | None = None,
        purpose: tuple[str, ...] = ("epoch",),
    ) -> None:
        self.tensors, self.seed, self.digest = dict(tensors), seed, digest
        self.fresh_shots, self.purpose = fresh_shots, purpose

    def __len__(self) -> int:
        return len(self._rows(0))

    def batches(self, size: int, first: int) -> Iterator[Batch]:
        """See Samples. The key of a sample is that of seed, step and its place among the epoch's samples."""
        for epoch, batch, step in _steps(len(self), size, first):
            if batch == 0 or step == first:
                rows = self._rows(epoch)
                order = _permutation(len(rows), key_of(self.seed, *self.purpose, epoch))
            index = order[batch * size : (batch + 1) * size]
            keys = tuple(key_of(self.seed, step, i) for i in index.tolist())
            yield Batch({name: tensor[rows[index]] for name, tensor in self.tensors.items()}, keys)

    def _rows(self, epoch: int) -> Tensor:
        if self.fresh_shots is None:
            return torch.arange(len(next(iter(self.tensors.values()))))
        return few_shots(self.tensors["labels"], self.fresh_shots, self.seed, epoch)


class Streamed(Samples):
    """Pictures read from shards epoch by epoch: shards in random order, then a buffer of undecoded samples.

    A resumed run reads the epoch's earlier samples again, undecoded; every rank reads all of them.

    Args:
        data: with classes.
        size: of the square pictures, in pixels.
        length: number of samples.
        buffer: samples that one is drawn from.
        threads: that decode; the order does not depend on them.
    """

    def __init__(
        self, data: Dataset, size: int, *, length: int, seed: int, buffer: int = BUFFER, threads: int = 8
    ) -> None:
        self.data, self.size, self.length, self.seed = data, size, length, seed
        self.buffer, self.threads = buffer, threads
        # Names and sizes: reading ImageNet through for a digest would take longer than many a training.
        shards = [(shard.name, shard.stat().st_size) for shard in data.shards]
        self.digest = sha256(repr((shards, data.class_names, length)).encode())

    def __len__(self) -> int:
        return self.length

    def batches(self, size: int, first: int) -> Iterator[Batch]:
        """See Samples. The key of a sample is that of seed, step and its id."""
        with ThreadPoolExecutor(self.threads) as pool:
            for epoch, batch, step in _steps(len(self), size, first):
                if batch == 0 or step == first:
                    records = islice(self._records(epoch), batch * size, None)
                drawn = list(islice(records, size))
                pictures, labels = zip(*pool.map(self._decoded, drawn), strict=True)
                keys = tuple(key_of(self.seed, step, record["__key__"]) for record in drawn)
                yield Batch({"images": torch.stack(pictures), "labels": torch.tensor(labels)}, keys)

    def _records(self, epoch: int) -> Iterator[Mapping[str, Any]]:
        shards = self.data.shards
        order = _permutation(len(shards), key_of(self.seed, "shards", epoch)).tolist()
        records = self.data.records([shards[i] for i in order])
        rng = random.Random(key_of(self.seed, "buffer", epoch))
        yield from filters.shuffle(self.buffer, initial=self.buffer, rng=rng)(records)

    def _decoded(self, record: Mapping[str, Any]) -> tuple[Tensor, int]:
        example = decode(record)
        return as_bytes(to_tensor(example.image, self.size)), example.label


def open_samples(
    data: Dataset,
    size: int,
    *,
    seed: int,
    shots: int | None = None,
    fresh_shots: bool = False,
    purpose: tuple[str, ...] = ("epoch",),
    in_memory: int = IN_MEMORY,
) -> Samples:
    """A labelled split for training: what is chosen of it in memory as bytes, or a stream where that is too much.

    Args:
        data: the split.
        size: of the square pictures, in pixels.
        seed: see Samples.
        shots: of each class; default: all samples.
        fresh_shots: draw the shots again for each epoch.
        purpose: see InMemory.
        in_memory: most bytes of pictures to keep.

    Raises:
        UnavailableError: the split has no shards.
        GauntletError: samples without classes; fresh shots of a set that is too large to keep.
    """
    labels = read_labels(data)
    few = None if fresh_shots else shots
    chosen = torch.arange(len(labels)) if few is None else few_shots(labels, few, seed)
    if few is not None or len(chosen) * 3 * size * size <= in_memory:
        pictures = _pictures(data, size, set(chosen.tolist()))
        images = torch.stack([pictures[i] for i in chosen.tolist()])
        return InMemory(
            {"images": images, "labels": labels[chosen]}, seed=seed, digest=data.digest,
            fresh_shots=shots if fresh_shots else None, purpose=purpose,
        )  # fmt: skip
    if fresh_shots:
        raise GauntletError(
            f"fresh shots of {len(labels)} samples at {size} px", expected=f"a set of at most {in_memory >> 20} MiB",
            where=str(data.folder), fix="fixed shots (fresh_shots = false), which are read once",
        )  # fmt: skip
    return Streamed(data, size, length=len(labels), seed=seed)


def few_shots(labels: Tensor, shots: int, seed: int, *epoch: int) -> Tensor:
    """Indices of `shots` samples of each class, drawn by the seed (and an epoch); all of a class that has fewer."""
    order = _permutation(len(labels), key_of(seed, "shots", *epoch))
    return torch.cat([order[labels[order] == label][:shots] for label in sorted(set(labels.tolist()))])


def read_labels(data: Dataset) -> Tensor:
    """Classes [N] of a split in its order; pictures are skipped over.

    Raises:
        UnavailableError: no shards. GauntletError: samples without classes, or whose classes have no names.
    """
    if not data.shards:
        raise UnavailableError(
            f"data set {data.name!r} has no {data.split} split to train on", expected=f"{data.split}/0.tar",
            where=str(data.folder), fix="give a folder with one: --data DIR",
        )  # fmt: skip
    labels = torch.tensor(list(data.labels()))
    if int(labels.min()) < 0:
        raise GauntletError(
            f"data set {data.name!r} without classes for all samples", expected="a `cls` file for each picture",
            where=str(data.folder), fix="a labelled set",
        )  # fmt: skip
    if (names := len(data.class_names)) <= int(labels.max()):
        raise GauntletError(
            f"data set {data.name!r} with a label {int(labels.max())}", expected=f"labels below {names}",
            where=str(data.folder), fix=f"gauntlet data check {data.name} --split {data.split}",
        )  # fmt: skip
    return labels


def as_bytes(images: Tensor) -> Tensor:
    """Images in [0,1] -> bytes 0..255."""
    return (images * 255).round().to(torch.uint8)


def _pictures(data: Dataset, size: int, chosen: set[int]) -> dict[int, Tensor]:
    """Bytes [3, size, size] of the chosen samples by their place in the split."""
    records = enumerate(data.records())
    return {i: as_bytes(to_tensor(decode(record).image, size)) for i, record in records if i in chosen}


def _steps(samples: int, size: int, first: int) -> Iterator[tuple[int, int, int]]:
    """(epoch, batch of the epoch, step) from a step on."""
    for step in count(first):
        yield *divmod(step, samples // size), step


def _permutation(n: int, key: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(key))
