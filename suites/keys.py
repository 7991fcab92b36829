"""The code part of a cell's key: everything that the method, the attack and the scoring import."""

from collections.abc import Iterator

from vlm_gauntlet.attacks.build import build_attack
from vlm_gauntlet.attacks.text.sources.registry import build_source
from vlm_gauntlet.fixtures.backbones import embedded
from vlm_gauntlet.fixtures.closure import Root, code_digest, root_of
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.protocols import Protocol, WordSwap
from vlm_gauntlet.methods.registry import Method, method

SCORING = ("vlm_gauntlet.suites.running", "vlm_gauntlet.suites.batch", "vlm_gauntlet.suites.reading")
ON_TEXT = "vlm_gauntlet.attacks.text.prompts"
CONFIG = "open_clip_config.json"


def cell_code(chosen: Method, protocol: Protocol, backbone: str) -> str:
    """Digest of all code that can change a cell's result, and of the embedded backbone's architecture.

    Raises:
        GauntletError: a module is missing, is no Python, or was edited while this process ran.
    """
    return with_architecture(code_digest(code_roots(chosen, protocol)), backbone)


def code_roots(chosen: Method, protocol: Protocol) -> tuple[Root, ...]:
    """Where a cell's code starts; registries import the rest by computed names, which no closure follows."""
    roots: list[Root] = [*SCORING, *method_roots(chosen), *method_roots(method("undefended"))]
    attack = build_attack(protocol, deterministic=True)
    roots += [] if attack is None else [root_of(type(attack))]
    roots += text_roots(protocol.text) if protocol.text else []
    return tuple(dict.fromkeys(roots))


def method_roots(chosen: Method) -> Iterator[Root]:
    """The method's module, and that of the fine-tuned one on whose tower it stands."""
    yield root_of(chosen.defence)
    if chosen.victim is not None:
        yield from method_roots(chosen.victim)


def text_roots(rules: WordSwap) -> list[Root]:
    """The attack on text, and where it takes its words from."""
    return [ON_TEXT, root_of(type(build_source(rules)))]


def with_architecture(code: str, backbone: str) -> str:
    """A digest of code joined with the file that says how an embedded backbone's weights are put together.

    The digest of the weights does not know it: another activation or normalisation is another model.
    """
    folder = embedded().get(backbone)
    return sha256(f"{code}\n{sha256((folder / CONFIG).read_bytes())}".encode()) if folder else code
