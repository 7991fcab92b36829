"""Digest of what a built defence holds: its own tensors, arrays and plain data, however they came in.

A weights file that a defence reads beside its own file is code as much as its source: another file, another digest.
"""

import functools
import inspect
import io
import logging
import os
import random
import types
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import PurePath

import numpy as np
import torch
from torch import Tensor, nn

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError

from .base import Defence

# Of a backbone, bookkeeping that running fills; of a defence, the streams that each call sets.
RUNNING = frozenset({"passes", "_text_cache", "draws"})
_TORCH_OWN = frozenset(nn.Module().__dict__) - {"training"}
# Where values come from or are kept, not values: their type counts, not what they hold.
OPAQUE = (
    torch.Generator, torch.device, random.Random, np.random.Generator, np.random.RandomState, weakref.ref,
    weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet, types.ModuleType, type, io.IOBase,
    logging.Logger, logging.Handler,
)  # fmt: skip


def state_digest(defence: Defence, backbone: Backbone) -> str:
    """SHA-256 of a defence right after it was built; the same on every device, in every folder, in any order of keys.

    Counted are parameters, buffers and whatever its attributes reach, and data in its classes' bodies; a path counts by
    its last part. A function counts by its name and what it closes over; its code is in the closure of the module.

    Args:
        defence: as built.
        backbone: the undefended one, whose weights have a digest of their own; whatever is shared with it is named
            only, so that a fine-tuned copy counts by what was tuned.

    Raises:
        GauntletError: attributes nest too deeply to be read.
    """
    try:
        return _Reader(backbone).whole(defence).hex()
    except RecursionError:
        raise GauntletError(
            "attributes that nest too deeply", expected="tensors, arrays and plain data within a hundred levels",
            where=f"method {defence.card.id}", fix="keep long chains of objects out of the defence's attributes",
        ) from None  # fmt: skip


class _Reader:
    def __init__(self, backbone: Backbone) -> None:
        self._known: dict[int, bytes] = {}
        self._alive: list[object] = []  # an id is one object's only while that lives
        shared: list[tuple[str, object]] = [("tokenize", backbone.tokenize), *backbone.named_modules()]
        shared += [*backbone.named_parameters(), *backbone.named_buffers()]
        for name, value in shared:
            self._keep(value, _mark("shared", name.encode()))
        self._start = self._several([backbone.name, backbone.image_size])
        self._start += tensor_digest(backbone.mean) + tensor_digest(backbone.std)

    def whole(self, defence: Defence) -> bytes:
        kinds = type(defence).__mro__[: type(defence).__mro__.index(Defence)]
        bodies = [{k: v for k, v in vars(kind).items() if _is_data(k, v)} for kind in kinds]
        return _mark("defence", self._start, self._several(bodies), self.of(defence))

    def of(self, value: object) -> bytes:
        """Digest of any value."""
        plain = _plain(value)
        if plain is not None:
            return plain
        if id(value) not in self._known:
            self._keep(value, _mark("cycle"))  # what a part of it finds of it while it is being read
            self._keep(value, self._read(value))
        return self._known[id(value)]

    def _keep(self, value: object, digest: bytes) -> None:
        self._known[id(value)] = digest
        self._alive.append(value)

    def _several(self, values: Iterable[object]) -> bytes:
        return b"".join([self.of(value) for value in values])

    def _named(self, items: Iterable[tuple[object, object]]) -> bytes:
        return b"".join(sorted(self.of(key) + self.of(value) for key, value in items))

    def _read(self, value: object) -> bytes:
        kind = type(value).__qualname__.encode()
        if isinstance(value, Tensor):
            return tensor_digest(value)
        if isinstance(value, OPAQUE):
            return _mark("opaque", kind, getattr(value, "__qualname__", "").encode())
        if isinstance(value, Mapping):
            return _mark("mapping", self._named(list(value.items())))
        if isinstance(value, list | tuple | deque):
            return _mark("sequence", self._several(value))
        if isinstance(value, set | frozenset):
            return _mark("set", *sorted(map(self.of, value)))
        if isinstance(value, nn.Module):
            return _mark("module", kind, self._named(_parts(value)))
        if hasattr(value, "__array__"):
            return self._array(np.asarray(value))
        if callable(value) and not isinstance(value, nn.Module):
            return _mark("function", kind, self._several(_held(value)), self._named(_attributes(value)))
        return _mark("object", kind, self._named(_attributes(value)))

    def _array(self, array: np.ndarray) -> bytes:
        if array.dtype == object:
            return _mark("objects", repr(array.shape).encode(), self._several(array.ravel().tolist()))
        return _mark("array", array.dtype.str.encode(), repr(array.shape).encode(), array.tobytes())


def tensor_digest(tensor: Tensor) -> bytes:
    """Digest of dtype, shape and values, wherever the tensor lies and however it is laid out."""
    head = (str(tensor.dtype).encode(), repr(tuple(tensor.shape)).encode())
    if tensor.is_meta:
        return _mark("tensor", *head)
    dense = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
    dense = (dense if dense.layout == torch.strided else dense.to_dense()).cpu().resolve_conj().resolve_neg()
    return _mark("tensor", *head, dense.contiguous().flatten().view(torch.uint8).numpy().data)


def _mark(kind: str, *parts: bytes | memoryview) -> bytes:
    """Digest of parts; each comes with its length, so that nothing can be read in two ways."""
    found = sha256(kind.encode())
    for part in parts:
        found.update(b"%d:" % len(part))
        found.update(part)
    return found.digest()


def _plain(value: object) -> bytes | None:
    """Of values without parts; None of the others."""
    if isinstance(value, PurePath):
        return _mark("path", os.fsencode(value.name))
    if isinstance(value, str) and os.path.isabs(value):
        return _mark("path", os.fsencode(os.path.basename(value)))
    if isinstance(value, str):
        return _mark("str", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray):
        return _mark("bytes", bytes(value))
    if isinstance(value, float):  # numpy's too, whose words for themselves have changed
        return _mark("float", float(value).hex().encode())
    if isinstance(value, bool | int | complex | types.NoneType | types.EllipsisType):
        return _mark(type(value).__name__, repr(value).encode())
    if isinstance(value, range | slice | torch.dtype | torch.layout | torch.memory_format | np.dtype):
        return _mark(type(value).__name__, repr(value).encode())
    return None


def _parts(module: nn.Module) -> Iterator[tuple[str, object]]:
    yield from module.named_parameters(recurse=False, remove_duplicate=False)
    yield from module.named_buffers(recurse=False, remove_duplicate=False)
    yield from module._modules.items()  # unlike named_children, a module twice under two names
    yield from (item for item in _attributes(module) if item[0] not in _TORCH_OWN)


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    """What an object was given; not what a cached property keeps."""
    kind = type(value)
    named = dict(getattr(value, "__dict__", {}))
    for base in kind.__mro__:
        slots = base.__dict__.get("__slots__", ())
        names = [slots] if isinstance(slots, str) else slots
        named |= {name: getattr(value, name) for name in names if hasattr(value, name)}
    for name, held in named.items():
        cached = isinstance(inspect.getattr_static(kind, name, None), functools.cached_property)
        if not cached and name not in RUNNING and name not in ("__dict__", "__weakref__", "__wrapped__"):
            yield name, held


def _held(function: Callable[..., object]) -> Iterator[object]:
    """What a callable closes over, is bound to, or has as defaults."""
    if isinstance(function, functools.partial):
        yield from (function.func, function.args, function.keywords)
    yield getattr(function, "__qualname__", "")
    yield from (getattr(function, name, None) for name in ("__self__", "__wrapped__", "__defaults__", "__kwdefaults__"))
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue


def _is_data(name: str, value: object) -> bool:
    """Whether an entry of a class body is data, not code; the card has its file among the method's."""
    code = (property, classmethod, staticmethod, functools.cached_property, types.MemberDescriptorType)
    hidden = name.startswith("__") or name in ("card", "_abc_impl")
    return not hidden and not isinstance(value, code) and not (callable(value) and not isinstance(value, nn.Module))
