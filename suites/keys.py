"""The code part of a cell's key: everything that the method, the attack and the scoring import."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

from vlm_gauntlet.attacks.registry import build
from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.backbones import embedded
from vlm_gauntlet.fixtures.closure import Root, code_digest, root_of
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.methods.base import Defence
from vlm_gauntlet.methods.registry import Method, method
from vlm_gauntlet.methods.state import state_digest

from .sources import tuned_methods

SCORING = (
    "vlm_gauntlet.suites.running", "vlm_gauntlet.suites.batch", "vlm_gauntlet.suites.witness",
    "vlm_gauntlet.suites.indicators",
)  # fmt: skip
CONFIG = "open_clip_config.json"


def cell_code(chosen: Method, backbone: str) -> str:
    """Digest of the code of method and scoring, and of the embedded backbone's architecture; the same for all attacks.

    Raises:
        GauntletError: a module is missing, is no Python, or was edited while this process ran.
    """
    return with_architecture(code_digest(shared_roots(chosen)), backbone)


def attack_code(protocol: Protocol, sources: Mapping[str, Defence], backbone: Backbone | None) -> str:
    """Digest of the code of the attack that a protocol names, with errors as above; empty without one.

    Of an attack that transfers images, with the code and the state of what they are made on.
    """
    roots = attack_roots(protocol)
    if not sources or backbone is None:
        return code_digest(roots) if roots else ""
    return transferring_code(protocol, source_states(sources, backbone))


def source_states(sources: Mapping[str, Defence], backbone: Backbone) -> tuple[str, ...]:
    """Names and states of what images are transferred from."""
    return tuple(f"{name} {_state(source, backbone)}" for name, source in sources.items())


def transferring_code(protocol: Protocol, states: Iterable[str]) -> str:
    """`attack_code` of an attack that transfers images, from `source_states`."""
    roots = attack_roots(protocol)
    behind = [root for tuned in tuned_methods() for root in method_roots(tuned)]
    return sha256("\n".join([code_digest((*roots, *dict.fromkeys(behind))), *states]).encode())


@lru_cache(maxsize=64)
def _state(source: Defence, backbone: Backbone) -> str:
    """Digest of a source; those that stand on the shared backbone are the same objects in every cell of a run."""
    return state_digest(source, backbone)


def shared_roots(chosen: Method) -> tuple[Root, ...]:
    """Where the code of method and scoring starts; what registries import by computed names no closure follows."""
    return tuple(dict.fromkeys([*SCORING, *method_roots(chosen), *method_roots(method("undefended"))]))


def attack_roots(protocol: Protocol) -> tuple[Root, ...]:
    """Where the code of the attack starts."""
    attack = build(protocol)
    return () if attack is None else (root_of(type(attack)),)


def method_roots(chosen: Method) -> Iterator[Root]:
    """The method's module, and that of the fine-tuned one on whose backbone it stands."""
    yield root_of(chosen.defence)
    if chosen.tuned is not None:
        yield from method_roots(chosen.tuned)


def with_architecture(code: str, backbone: str) -> str:
    """A digest of code joined with the file that says how an embedded backbone's weights are put together.

    The digest of the weights does not know it: another activation or normalisation is another model.
    """
    folder = embedded().get(backbone)
    return sha256(f"{code}\n{sha256((folder / CONFIG).read_bytes())}".encode()) if folder else code
