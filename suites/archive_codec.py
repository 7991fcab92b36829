"""Attacked images as what was added to the clean ones: exact to the last bit, and small.

An attacked image is clean + q / UNITS, rounded to float32, and the few steps of the last bit that rounding in the
attack left between: integers, mostly equal ones, which zlib makes small. Computed in float64 with one rounding, so that
every processor decodes the same bits.
"""

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[Any]
UNITS = 255 * 64
"""Steps of q in the range [0, 1] of pixels: attacks walk in fractions of 1/255."""


def encode(attacked: Tensor, clean: Tensor) -> bytes:
    """The bytes of one image; both are float32 of one shape, `clean` in [0, 1], `attacked` whatever it is."""
    after, before = _plain(attacked), _plain(clean)
    steps = np.rint((np.nan_to_num(after).astype(np.float64) - before) * UNITS)
    q = steps.clip(-(2**15), 2**15 - 1).astype("<i2")
    # modulo 2^32: whatever q is, the way back is exact
    left = after.view("<u4") - _predicted(before, q).view("<u4")
    return zlib.compress(_planes(q) + _planes(left), 9)


def decode(data: bytes, clean: Tensor) -> Tensor:
    """The attacked image of `encode`, float32 of the shape of `clean`.

    Raises:
        ValueError: the bytes are cut, or not of an image of this shape.
    """
    before, size = _plain(clean), clean.numel()
    try:
        stream = zlib.decompressobj()
        raw = stream.decompress(data, 6 * size + 1)
    except zlib.error as error:
        raise ValueError(f"not decompressible: {error}") from None
    if len(raw) != 6 * size or not stream.eof or stream.unused_data:
        raise ValueError(f"not the bytes of an image of {tuple(clean.shape)}")
    q, left = _joined(raw[: 2 * size], "<i2"), _joined(raw[2 * size :], "<u4")
    bits = _predicted(before, q).view("<u4") + left
    return torch.from_numpy(bits.view("<f4").copy()).reshape(clean.shape)


def _predicted(before: Array, q: Array) -> Array:
    return (before.astype(np.float64) + q.astype(np.float64) / UNITS).astype("<f4")


def _plain(image: Tensor) -> Array:
    return np.ascontiguousarray(image.detach().cpu().numpy().astype("<f4", copy=False)).reshape(-1)


def _planes(values: Array) -> bytes:
    """First all lowest bytes, then all next ones: equal bytes lie together."""
    return values.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()


def _joined(raw: bytes, kind: str) -> Array:
    width = np.dtype(kind).itemsize
    return np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(width, -1).T).reshape(-1).view(kind)
