"""Numbers and records in words, the same in every table and page."""

import re
import shlex
from collections.abc import Iterable

from vlm_gauntlet.attacks.levels import LEVELS, level
from vlm_gauntlet.attacks.registry import parameters
from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.protocols import Protocol, ThreatModel, fraction
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.registry import methods

from .statistics import Estimate

NORMS = {"linf": "L∞", "l2": "L2", "none": "no attack"}
KNOWLEDGE = {
    "none": "no attacker",
    "transfer": "transfer: the attack is made on the undefended backbone",
    "black-box": "black-box: the attack sees the defence's logits and no gradient",
    "white-box": "white-box: the attack goes through the defence as it is written",
    "adaptive": "adaptive: the attacker knows the defence and goes around what blocks the gradient",
}


def percent(value: float) -> str:
    """`0.412` -> `41.2`."""
    return f"{100 * value:.1f}"


def signed(value: float) -> str:
    """Points with their sign: `-0.412` -> `−41.2`."""
    return f"{100 * value:+.1f}".replace("-", "−")


def interval(estimate: Estimate | None) -> str:
    """`41.2 [38.1, 44.3]` in per cent, or a dash."""
    return f"{percent(estimate.value)} [{percent(estimate.low)}, {percent(estimate.high)}]" if estimate else "–"


def threat_words(threat: ThreatModel) -> str:
    """`L∞, ε = 1/255`, with what is not the default."""
    if threat.norm == "none":
        return NORMS["none"] if threat.harmless else f"{threat.modality} attacked"
    parts = [f"{NORMS[threat.norm]}, ε = {threat.eps}"]
    parts += [f"{threat.modality} attacked"] if threat.modality != "image" else []
    parts += ["at native resolution"] if threat.attack_resolution != "model" else []
    return ", ".join(parts)


def protocol_words(protocol: Protocol) -> list[tuple[str, str]]:
    """Every field of a protocol as (term, description)."""
    threat, attack, asked = protocol.threat, protocol.attack, protocol.evaluation
    image = "the model's input resolution" if threat.attack_resolution == "model" else "the data set's own resolution"
    how_far = level(protocol)
    return [
        ("threat model", f"{threat_words(threat)}; modality: {threat.modality}; ε applies in [0, 1] at {image}"),
        ("attacker's knowledge", KNOWLEDGE[threat.knowledge]),
        ("attack", attack.name),
        *((name.replace("_", " "), _parameter(name, value, threat)) for name, value in parameters(attack).items()),
        ("level", f"{how_far}: {LEVELS[how_far]}" if how_far else "no attack"),
        ("scoring", f"{asked.scoring_draws} fresh draw(s) where the defence is randomised, otherwise one"),
        ("prompts", asked.prompts),
        ("preprocessing", asked.preprocessing),
        ("digest", protocol.digest),
    ]


def _parameter(name: str, value: object, threat: ThreatModel) -> str:
    """A parameter of an attack in words: step sizes also in pixels, rules of text one by one."""
    if name == "step_size":
        try:
            return f"{value} × ε = {fraction(str(value)) * threat.eps}"
        except ValueError:  # on record of an attack that is not here, and that nobody checked
            return str(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(f"{part[0]} = {part[1]}" if isinstance(part, tuple) else str(part) for part in value)
    return str(value)


def command(outcome: Outcome) -> str:
    """The command that runs this one cell again."""
    cell = outcome.cell
    options = {"method": askable(cell.method), "backbone": cell.backbone, "dataset": cell.dataset,
               "protocol": cell.protocol.id, "limit": str(cell.limit), "seed": str(cell.seed)}  # fmt: skip
    if cell.batch_size is not None:
        options["batch-size"] = str(cell.batch_size)
    return shlex.join(["gauntlet", "run", *(part for name, value in options.items() for part in (f"--{name}", value))])


def askable(label: str) -> str:
    """A label as `--method` takes it; of a method from outside the file, which no outcome names, is left to fill in."""
    own, at, below = label.partition("@")
    stem = own.partition("+")[0]
    known = ":" in stem or stem in methods()
    return (own if known else f"FILE.py:{own}") + (f"@{askable(below)}" if at else "")


def file_name(name: str) -> str:
    """A name as a safe file stem; where characters had to go, a digest keeps two names apart."""
    safe = re.sub(r"[^A-Za-z0-9_=+-]+", "-", name).strip("-")[:80]
    return safe if safe == name else f"{safe or 'name'}-{sha256(name.encode())[:8]}"
