"""A cheap fingerprint of a module's state, to see whether a call changed anything."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from vlm_gauntlet.fixtures.backbone import Backbone

_TORCH_OWN = set(nn.Module().__dict__) | {"draws"}


@dataclass(frozen=True)
class Fingerprint:
    """What each named piece of state looked like."""

    marks: dict[str, object]

    def changes(self, later: "Fingerprint") -> list[str]:
        """Names whose mark differs, sorted."""
        names = self.marks.keys() | later.marks.keys()
        return sorted(n for n in names if self.marks.get(n) != later.marks.get(n))


def fingerprint(module: nn.Module) -> Fingerprint:
    """Marks of all parameters, buffers and attributes. A tensor's mark is its identity and in-place version."""
    marks: dict[str, object] = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        marks[name] = (_mark(tensor), tensor.grad is not None)
    for name, child in module.named_modules():
        if isinstance(child, Backbone):  # its text cache and pass counter are pure bookkeeping
            continue
        for key, value in child.__dict__.items():
            if key not in _TORCH_OWN:
                marks[f"{name}.{key}".lstrip(".")] = _mark(value)
    return Fingerprint(marks)


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
