"""Code from outside gets a backbone of its own: what it does to that one reaches no other cell of the process."""

import copy

import torch
from torch import nn

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import ContractError, GauntletError

from .data_files import is_ours
from .registry import Method
from .state import tensor_digest

PLAIN = ("name", "image_size", "digest")
_METHODS = dict(vars(Backbone))
_first: dict[int, tuple[Backbone, dict[str, str]]] = {}
_marks: dict[int, tuple[tuple[str, int, int], ...]] = {}


def own_backbone(chosen: Method, backbone: Backbone) -> Backbone:
    """The backbone for a defence to stand on: a copy where any of its code is from outside.

    Raises:
        GauntletError: the weights that all share are not any more what was loaded.
    """
    check_shared(backbone)
    kept = {id(backbone.tokenize): backbone.tokenize}  # holds no weights, and takes long to copy
    return backbone if _all_ours(chosen) else copy.deepcopy(backbone, kept)


def check_untouched(chosen: Method, own: Backbone, backbone: Backbone) -> None:
    """Refuses a defence that changed what it was given: attacks on the undefended model would meet another model.

    Raises:
        ContractError: tensors, modules or methods of the copy are not those of the original.
    """
    if own is backbone:
        return
    before, after = _digests(backbone), _digests(own)
    changed = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
    changed += [name for name in PLAIN if getattr(own, name) != getattr(backbone, name)]
    changed += [f"{n or 'backbone'} has hooks or methods of its own" for n, m in own.named_modules() if _patched(m)]
    if changed:
        raise ContractError(
            f"{chosen.label} changed the backbone that it was given: {', '.join(changed[:3])}",
            expected="a backbone that stays as it is", where=f"method {chosen.label}",
            fix="load weights into a copy: copy.deepcopy(backbone), or backbone.tuned(differences)",
        )  # fmt: skip


def check_shared(backbone: Backbone) -> None:
    """Refuses to go on with shared weights that something in this process has changed since they were first seen.

    Digests are taken anew only where a tensor's place or version is another than last time.

    Raises:
        GauntletError: they are not any more what was loaded.
    """
    replaced = [name for name, value in _METHODS.items() if vars(Backbone).get(name) is not value]
    if replaced:
        raise GauntletError(
            f"something in this process replaced Backbone.{replaced[0]}", expected="the class as it is written",
            where="suites/cells.py", fix="start again without the code that patches it",
        )  # fmt: skip
    marks = tuple((name, tensor.data_ptr(), tensor._version) for name, tensor in _tensors(backbone))
    if _marks.get(id(backbone)) == marks and id(backbone) in _first:
        return
    found = _digests(backbone)
    _, first = _first.setdefault(id(backbone), (backbone, found))
    if first != found:
        changed = sorted(n for n in first.keys() | found.keys() if first.get(n) != found.get(n))
        raise GauntletError(
            f"the weights of {backbone.name} changed in this process: {', '.join(changed[:3])}",
            expected="weights as they were loaded", where="suites/cells.py",
            fix="start again; whatever ran before may have written into the shared backbone",
        )  # fmt: skip
    _marks[id(backbone)] = marks


def _all_ours(chosen: Method) -> bool:
    return is_ours(chosen.defence) and (chosen.tuned is None or _all_ours(chosen.tuned))


def _tensors(backbone: Backbone) -> list[tuple[str, torch.Tensor]]:
    return [*backbone.named_parameters(), *backbone.named_buffers()]


def _digests(backbone: Backbone) -> dict[str, str]:
    return {name: tensor_digest(tensor).hex() for name, tensor in _tensors(backbone)}


def _patched(module: nn.Module) -> bool:
    hooked = module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
    return bool(hooked) or any(name in vars(module) for name in ("forward", "encode_image", "encode_text", "classify"))
