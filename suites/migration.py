"""Carries frozen outcomes over from digests of version 1, in which a protocol was one flat list of fields.

    python -m vlm_gauntlet.suites.migration

A frozen outcome is carried over only if the digest on record is the one that version 1 gave to the very protocol that
has its id today; anything else is refused and has to be run again.
"""

import csv
import io
import json
from fractions import Fraction
from pathlib import Path

from vlm_gauntlet.attacks.protocols import protocols
from vlm_gauntlet.attacks.registry import parameters
from vlm_gauntlet.fixtures.errors import GauntletError, reading
from vlm_gauntlet.fixtures.files import sha256, write_atomically, writing
from vlm_gauntlet.fixtures.protocols import NO_ATTACK, Protocol

from .mini_claims import COLUMNS, FILE, HERE

NOTHING = {"steps": 0, "step_size": Fraction(0), "restarts": 1, "random_start": False, "loss": "none",
           "reduction": "sum", "selection": "final", "precision": "fp32", "gradient": "direct", "eot": 1}  # fmt: skip
LATER = {"kappa": Fraction(0), "momentum": Fraction(0), "labels": "true", "evasion": Fraction(0),
         "branches": Fraction(0), "draws": "fresh", "text": None, "joint": False}  # fmt: skip
ORDER = ("steps", "step_size", "restarts", "random_start", "loss", "kappa", "momentum", "reduction", "selection",
         "precision", "labels", "gradient", "evasion", "branches", "eot", "draws", "scoring_draws", "prompts",
         "preprocessing", "text", "joint")  # fmt: skip
NAMES = {"cw-pgd": "pgd", "sep-attack": "pgd", "joint": "pgd"}
STEP_SIZES = {"noise": Fraction(1)}  # files gave these attacks a step size that they never took


def flat(protocol: Protocol) -> dict[str, object]:
    """The fields of version 1, in its order; younger ones only where they were set."""
    attack, threat = protocol.attack, protocol.threat
    known: dict[str, object] = {**NOTHING, **LATER, **parameters(attack), **protocol.evaluation.model_dump()}
    known["joint"] = attack.name == "joint"
    known["steps"] = known.pop("queries", known["steps"])
    known["step_size"] = STEP_SIZES.get(attack.name, known["step_size"])
    if attack.name == "bert-attack":
        known["steps"] = 0
    fields = {name: known[name] for name in ORDER if name not in LATER or known[name] != LATER[name]}
    name = NAMES.get(attack.name, attack.name) if attack.name != NO_ATTACK else NO_ATTACK
    return {
        "id": protocol.id,
        "threat": {"norm": threat.norm, "eps": threat.eps, "modality": threat.modality,
                   "attack_resolution": threat.attack_resolution, "knowledge": threat.knowledge},
        "attack": name, **fields,
    }  # fmt: skip


def old_digest(protocol: Protocol) -> str:
    """What version 1 called this protocol."""
    return sha256(json.dumps(flat(protocol), separators=(",", ":"), default=_plain, ensure_ascii=False).encode())


def _plain(value: object) -> object:
    return value.model_dump() if hasattr(value, "model_dump") else str(value)


def migrate(path: Path) -> int:
    """Rewrites the protocol digests of one file of frozen outcomes; returns how many it carried over.

    Raises:
        GauntletError: the file does not validate or cannot be written, or a row's protocol is not the one that it was
            frozen under.
    """
    fix = "restore the file from git"
    with (
        reading("frozen outcomes", path, expected=f"columns {','.join(COLUMNS)}", fix=fix),
        path.open(newline="", encoding="utf-8") as file,
    ):
        rows = list(csv.DictReader(file, strict=True))
        if strange := next((line for line in rows if set(line) != set(COLUMNS) or None in line.values()), None):
            raise ValueError(f"a line with other columns: {strange}")
    carried = 0
    for line, row in enumerate(rows, start=2):
        now = protocols().get(row["protocol"])
        if now is not None and row["protocol_digest"] == now.digest[:12]:
            continue
        if now is None or row["protocol_digest"] != old_digest(now)[:12]:
            raise GauntletError(
                f"line {line}: protocol {row['protocol']!r} with digest {row['protocol_digest']}",
                expected="the digest that version 1 gave to the protocol of this id", where=str(path),
                fix="run the cell again and freeze it: gauntlet claims freeze",
            )  # fmt: skip
        row["protocol_digest"] = now.digest[:12]
        carried += 1
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if carried:
        with writing(path, fix="make room; the file is as it was"):
            write_atomically(path, text.getvalue().encode())
    return carried


if __name__ == "__main__":
    for found in sorted(HERE.glob(f"*/{FILE}")):
        print(f"{found.parent.name}: {migrate(found)} frozen outcomes carried over")
