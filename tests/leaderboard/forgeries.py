"""Ways to make an outcome say more than its run: name -> what is done to the record, and who notices.

`aside`: the board does not show it; `unranked`: it is shown and has no rank; `verify`: only recomputing finds it.
"""

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from vlm_gauntlet.fixtures.records import Cell
from vlm_gauntlet.suites.retrieval_records import RetrievalCell

Record = dict[str, Any]
Fate = Literal["aside", "unranked", "verify"]


@dataclass(frozen=True)
class Forgery:
    """One of them. `said`: a part of the reason."""

    name: str
    change: Callable[[Record], None]
    fate: Fate
    said: str = ""

    def of(self, genuine: Record) -> Record:
        """The forged record, with the key that belongs to it wherever there is one: forgers can count."""
        forged = copy.deepcopy(genuine)
        self.change(forged)
        return rekeyed(forged)


def rekeyed(record: Record) -> Record:
    """The record with the key of its cell, if that validates."""
    with suppress(ValueError, KeyError, TypeError, AttributeError):
        kind = RetrievalCell if "image_to_text" in record else Cell
        record["key"] = kind.model_validate_json(json.dumps(record["cell"]), strict=True).key
    return record


def put(*path: object) -> Callable[[Record], None]:
    """Sets the value at the end of a path."""

    def change(record: Record) -> None:
        place: Any = record
        for step in path[:-2]:
            place = place[step]
        place[path[-2]] = path[-1]

    return change


def _indicator(name: str, **fields: object) -> Callable[[Record], None]:
    def change(record: Record) -> None:
        next(i for i in record["indicators"] if i["name"] == name).update(fields)

    return change


def _bits(record: Record) -> None:
    """Every answer right, and the indicator that follows from the samples made to fit."""
    for sample in record["samples"]:
        sample |= {"clean": 1, "attacked": 1}
    _fit(record)


def _fit(record: Record) -> None:
    clean, attacked = (
        sum(s[name] for s in record["samples"]) / len(record["samples"]) for name in ("clean", "attacked")
    )
    _indicator("robust-above-clean", value=attacked - clean, fired=attacked > clean)(record)


def _bit_alone(record: Record) -> None:
    next(s for s in record["samples"] if not s["attacked"])["attacked"] = 1


def _one_bit(record: Record) -> None:
    _bit_alone(record)
    _fit(record)


def _lower_a_rival(record: Record) -> None:
    next(s for s in record["samples"] if s["clean"]).update(clean=0, attacked=0)
    _fit(record)


def _drop_hard(record: Record) -> None:
    record["samples"] = [s for s in record["samples"] if s["attacked"] or s["id"] == record["samples"][0]["id"]]
    _fit(record)


def _large_limit(record: Record) -> None:
    record["cell"]["limit"] = 1000


def _drop_indicator(record: Record) -> None:
    record["indicators"] = [i for i in record["indicators"] if i["name"] != "zero-gradient"]


def _reverse(record: Record) -> None:
    record["samples"] = record["samples"][::-1]


def _twice(record: Record) -> None:
    record["samples"][1]["id"] = record["samples"][0]["id"]


def _swap_labels(record: Record) -> None:
    labels = sorted((s["label"] for s in record["samples"]), reverse=True)
    for sample, label in zip(record["samples"], labels, strict=True):
        sample["label"] = label


FORGERIES = [
    Forgery("a bit that is a boolean", put("samples", 0, "clean", True), "aside", "came True"),
    Forgery("a label in quotes", put("samples", 0, "label", "5"), "aside", "came '5'"),
    Forgery("a label below zero", put("samples", 0, "label", -5), "aside", "-5"),
    Forgery("a fractional label", put("samples", 0, "label", 1.0), "aside"),
    Forgery("a schema of tomorrow", put("schema_version", 99), "aside", "schema_version 99"),
    Forgery("eps by zero", put("cell", "protocol", "threat", "eps", "1/0"), "aside", "no number"),
    Forgery("eps too long to write out", put("cell", "protocol", "threat", "eps", "1e999999999"), "aside", "no number"),
    Forgery("eps beyond any image", put("cell", "protocol", "threat", "eps", "1" + "0" * 60), "aside"),
    Forgery("NaN seconds", put("attack_cost", "seconds", float("nan")), "aside", "finite"),
    Forgery("an infinite indicator", put("indicators", 0, "value", float("inf")), "aside", "finite"),
    Forgery("passes below zero", put("defence_cost", "forward", -1), "aside", "-1"),
    Forgery("passes beyond any number", put("attack_cost", "forward", 10**400), "aside"),
    Forgery("more right answers than draws", put("samples", 0, "clean", 2), "aside", "more draws than there were"),
    Forgery("no draws", put("draws", 0), "aside", "draws"),
    Forgery("no samples", put("samples", []), "aside", "samples"),
    Forgery("a sample twice", _twice, "aside", "same sample id twice"),
    Forgery("a date in the future", put("provenance", "made", "2099-01-01T00:00:00Z"), "aside", "in the future"),
    Forgery("a field more", put("verified", True), "aside", "no such field"),
    Forgery("a maker of another kind", put("provenance", "maker", "the referee"), "aside", "maker"),
    Forgery("a name with a line break", put("cell", "method", "tecoa\nfirst"), "aside", "method"),
    Forgery("more samples than its limit", put("cell", "limit", 2), "aside", "more than the limit"),
    Forgery("no steps", put("cell", "protocol", "attack", "steps", 0), "aside", "steps = 0"),
    Forgery("steps below zero", put("cell", "protocol", "attack", "steps", -3), "aside", "steps = -3"),
    Forgery("a parameter that the attack lacks", put("cell", "protocol", "attack", "mercy", 3), "aside", "mercy"),
    Forgery(
        "an attacker who knows nothing", put("cell", "protocol", "threat", "knowledge", "none"), "aside", "knows none"
    ),
    Forgery("an indicator removed", _drop_indicator, "aside", "zero-gradient"),
    Forgery("an indicator twice", lambda r: r["indicators"].append(r["indicators"][0]), "aside", "indicator twice"),
    Forgery("an indicator told to be quiet", _indicator("zero-gradient", value=0.5, fired=False), "aside", "own.fired"),
    Forgery("a threshold raised", _indicator("loss-not-rising", threshold=1.0), "aside", "threshold 1"),
    Forgery("bits without the indicator that follows", _bit_alone, "aside", "robust-above-clean"),
    Forgery("draws that a deterministic method has not", put("draws", 10), "aside", "scoring draws"),
    Forgery("labels of other samples", _swap_labels, "aside", "labels that are not the data set's"),
    Forgery("a label beyond the classes", put("samples", 0, "label", 77), "aside", "labels"),
    Forgery("a sample that nobody has", put("samples", 0, "id", "easy"), "aside", "limit 6 does not take"),
    Forgery("samples in another order", _reverse, "aside", "another order"),
    Forgery("files that no method here reads", put("provenance", "files", {"a": "0" * 64}), "aside", "1 files beside"),
    Forgery("a file without a digest", put("provenance", "files", {"a": "none"}), "aside", "files"),
    Forgery("batches of two sizes", put("cell", "batch_size", 7), "aside", "batches of"),
    Forgery("hard samples left out", _drop_hard, "unranked", "limit 6 takes 6"),
    Forgery("a large limit with few samples", _large_limit, "unranked", "limit 1000 takes"),
    Forgery("an invented digest of code", put("cell", "code_digest", "c" * 64), "unranked", "another code"),
    Forgery("an invented digest of the method", put("cell", "method_digest", "m" * 64), "unranked", "another method"),
    Forgery("an invented digest of the attack", put("cell", "attack_digest", ""), "unranked", "code of the attack"),
    Forgery("other weights", put("cell", "backbone_digest", "b" * 64), "unranked", "another backbone"),
    Forgery("other data", put("cell", "dataset_digest", "d" * 64), "unranked", "another revision"),
    Forgery("other prompts", put("cell", "prompts_digest", "p" * 64), "unranked", "other prompts"),
    Forgery("a backbone that nobody has", put("cell", "backbone", "miniclip-xl"), "unranked", "'miniclip-xl'"),
    Forgery("data that nobody has", put("cell", "dataset", "easy_set"), "unranked", "easy_set"),
    Forgery("a method that nobody has", put("cell", "method", "winner"), "unranked", "'winner' is not known"),
    Forgery("another method's name", put("cell", "method", "tecoa"), "unranked", "another"),
    Forgery("a path for a method", put("cell", "method", "evil.py:Evil"), "unranked", "'evil.py:Evil'"),
    Forgery("an attack that nobody has", put("cell", "protocol", "attack", "name", "mercy"), "unranked", "'mercy'"),
    Forgery(
        "a weak protocol under a strong name", put("cell", "protocol", "attack", "steps", 1), "unranked", "another here"
    ),
    Forgery("a protocol that nobody has", put("cell", "protocol", "id", "strongest"), "unranked", "'strongest'"),
    Forgery("every bit right", _bits, "verify"),
    Forgery("one bit right", _one_bit, "verify"),
    Forgery("a rival's clean answer taken away", _lower_a_rival, "verify"),
    Forgery("an indicator with another value", _indicator("zero-gradient", value=1.0, fired=True), "verify"),
]
