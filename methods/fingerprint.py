"""A cheap fingerprint of a module's state, to see whether a call changed anything."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from vlm_gauntlet.fixtures.backbone import Backbone

_TORCH_OWN = set(nn.Module().__dict__) | {"draws"}
_PLAIN = frozenset({int, float, str, bytes, bool, type(None)})


@dataclass(frozen=True)
class Fingerprint:
    """What each named piece of state looked like, and whether each module was in training."""

    marks: dict[str, object]
    modes: dict[str, bool]

    def changes(self, later: "Fingerprint") -> list[str]:
        """Names whose mark differs, sorted."""
        if self.marks == later.marks:
            return []
        names = self.marks.keys() | later.marks.keys()
        return sorted(n for n in names if self.marks.get(n) != later.marks.get(n))


def fingerprint(module: nn.Module) -> Fingerprint:
    """Marks of all parameters, buffers and attributes. A tensor's mark is its identity and in-place version.

    It is taken twice in every call of every defence: one walk, by the modules' own dictionaries.
    """
    found = Fingerprint({}, {})
    _walk(module, "", found, set())
    return found


def _walk(module: nn.Module, path: str, found: Fingerprint, seen: set[int]) -> None:
    if id(module) in seen:
        return
    seen.add(id(module))
    own, marks = module.__dict__, found.marks
    found.modes[path] = own["training"]
    for kind in ("_parameters", "_buffers"):
        for name, tensor in own[kind].items():
            if tensor is not None:
                marks[path + name] = (id(tensor), tensor._version, tensor.grad is not None)
    if not isinstance(module, Backbone):  # its text cache and pass counter are pure bookkeeping
        for name, value in own.items():
            if name not in _TORCH_OWN:
                marks[path + name] = value if type(value) in _PLAIN else _mark(value)
    for name, child in own["_modules"].items():
        if child is not None:
            _walk(child, f"{path}{name}.", found, seen)


def _mark(value: object, depth: int = 0) -> object:
    if isinstance(value, Tensor):
        return (id(value), value._version)
    if isinstance(value, (int, float, str, bytes, bool, type(None))):
        return value
    if depth < 4:
        if isinstance(value, Mapping):
            return tuple((repr(k), _mark(v, depth + 1)) for k, v in value.items())
        if isinstance(value, (list, tuple, set, frozenset, deque)):
            return tuple(_mark(v, depth + 1) for v in value)
        if hasattr(value, "__dict__") and not isinstance(value, (type, nn.Module)) and not callable(value):
            return (id(value), _mark(vars(value), depth + 1))
    return id(value)
