"""Parsers of data sets: small texts, shards, samples, pictures."""

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from vlm_gauntlet.fixtures import data_shards
from vlm_gauntlet.fixtures.data_samples import decode
from vlm_gauntlet.fixtures.data_texts import read_class_names, read_kind, read_shard_count, read_templates

from ..fixtures.data_maker import encoded, grey, picture
from .mutations import as_bytes, as_json
from .targets import Target

KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
SAMPLE = {"__key__": "s1", "__url__": "/wds/set/test/0.tar"}


def targets() -> Iterator[Target]:
    """See `targets.py`."""
    yield Target("class names", [b"cat\ndog\nship\n"], as_bytes, _text("classnames.txt", read_class_names))
    sentences = b"a photo of a {c}.\na {}\n"
    yield Target("templates", [sentences], as_bytes, _text("zeroshot_classification_templates.txt", read_templates))
    yield Target("number of shards", [b"12\n"], as_bytes, _text("nshards.txt", read_shard_count))
    yield Target("kind of set", [b"retrieval\n"], as_bytes, _text("dataset_type.txt", read_kind))
    yield Target("shard", [_shard(kind) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)], as_bytes, _read_shard)
    modes = [encoded(Image.new(mode, (8, 8), 7), "PNG") for mode in ("L", "LA", "I;16", "1")]
    pictures = [picture(1, kind=kind) for kind in KINDS] + modes
    yield Target("picture", pictures, as_bytes, _sample("png"))
    yield Target("label", [b"3", b" 0\n"], as_bytes, _sample("cls"))
    yield Target("label in JSON", [{"label": 3, "width": 8}, {"cls": 1}], as_json, _sample("json"))
    yield Target("captions", ["a cat\r\nthe cäts\n".encode()], as_bytes, _sample("txt"))


def _text(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], None]:
    def written(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)
        read(folder)

    return written


def _shard(form: int) -> bytes:
    import io

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for index in range(3):
            for name, data in ((f"s{index}.png", picture(index)), (f"{'long/' * 30}s{index}.cls", b"1")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _read_shard(data: bytes, folder: Path) -> None:
    path = folder / "set" / "test" / "0.tar"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    data_shards._read_shard.cache_clear()  # it knows files by their times, and these follow within one tick
    for record in data_shards.records(path):
        assert set(record) > {"__key__", "__url__"}


def _sample(kind: str) -> Callable[[bytes, Path], None]:
    good: dict[str, Any] = {"png": encoded(Image.new("L", (8, 8), grey(1)))}

    def read(data: bytes, folder: Path) -> None:
        decode({**SAMPLE, **good, kind: data})

    return read
