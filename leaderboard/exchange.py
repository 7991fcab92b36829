"""Rows and verdicts in the field's exchange formats: badges, Every Eval Ever, the hub's `.eval_results`, codecheck.yml.

Facts about the formats, with their sources: shields.io endpoint schema 1; Every Eval Ever (arXiv:2606.14516) schema
0.3.0; hub-docs `eval-results.md` (beta); CODECHECK 2.0. Every Eval Ever's own validator is not run here.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from vlm_gauntlet.fixtures.files import sha256
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.methods.claims import Claim

from .exports import as_json
from .formatting import command, file_name, percent, threat_words
from .nights import made_at, robust
from .rows import Row
from .statistics import LEVEL
from .verdicts import Verdict

EEE_SCHEMA = "0.3.0"
RELATIONSHIP = {"first party": "first_party", "third party": "third_party", "authors": "self_reported"}
TESTED = ("reproduced", "below claim", "above claim", "inconclusive", "failed")


def badges(rows: Sequence[Row], verdicts: Mapping[str, Verdict], claims: Sequence[Claim]) -> dict[str, str]:
    """File name -> shields.io endpoint JSON: of each method how many claims hold, and what its worst row keeps."""
    made = {}
    words: dict[str, Counter[str]] = {}
    for claim in claims:
        words.setdefault(claim.method, Counter())[verdicts[claim.id].word] += 1
    for name, found in sorted(words.items()):
        if tested := sum(found[word] for word in TESTED):
            held = found["reproduced"]
            colour = "brightgreen" if held == tested else "red" if 2 * held < tested else "yellow"
            made[f"{file_name(name)}-reproduced.json"] = _badge("reproduced", f"{held}/{tested}", colour)
    for name in sorted({row.method for row in rows}):
        known = [row.under("T2") for row in rows if row.method == name and not row.control]
        left = [estimate.value for estimate in known if estimate]
        if left:
            made[f"{file_name(name)}-adaptive.json"] = _badge("adaptive", f"{percent(min(left))} %", "lightgrey")
    return made


def _badge(label: str, message: str, colour: str) -> str:
    return json.dumps({"schemaVersion": 1, "label": label, "message": message, "color": colour}, indent=1) + "\n"


def every_eval_ever(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """File name -> one record a model (method and backbone), a result a cell, and the samples' checksum beside it."""
    models: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        models.setdefault((outcome.cell.method, outcome.cell.backbone), []).append(outcome)
    return {f"{file_name('-'.join(model))}.json": _record(*model, theirs) for model, theirs in sorted(models.items())}


def _record(method: str, backbone: str, outcomes: Sequence[Outcome]) -> str:
    makers = {outcome.provenance.maker for outcome in outcomes}
    relation = RELATIONSHIP.get(next(iter(makers)), "other") if len(makers) == 1 else "other"
    at = str(int(max(map(made_at, outcomes)).timestamp()))
    record = {
        "schema_version": EEE_SCHEMA,
        "evaluation_id": f"vlm-gauntlet/{method}_{backbone}/{at}",
        "retrieved_timestamp": at,
        "source_metadata": {
            "source_type": "evaluation_run", "source_organization_name": "VLM Gauntlet",
            "evaluator_relationship": relation,
        },
        "eval_library": {"name": "vlm-gauntlet", "version": "0.1.0"},
        "model_info": {"name": f"{method} on {backbone}", "id": f"{method}/{backbone}"},
        "evaluation_results": [_result(outcome) for outcome in outcomes],
    }  # fmt: skip
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


def _result(outcome: Outcome) -> dict[str, object]:
    left, cell = robust(outcome), outcome.cell
    return {
        "evaluation_name": f"{cell.dataset}, {cell.protocol.id}",
        "source_data": {"dataset_name": cell.dataset, "source_type": "other"},
        "metric_config": {
            "evaluation_description": f"accuracy under {cell.protocol.title} ({threat_words(cell.protocol.threat)})",
            "lower_is_better": False, "score_type": "continuous", "min_score": 0.0, "max_score": 1.0,
        },
        "score_details": {
            "score": left.value,
            "uncertainty": {
                "confidence_interval": {"lower": left.low, "upper": left.high, "level": LEVEL, "method": "wilson"},
                "num_samples": left.n,
            },
        },
        "generation_config": {"execution_command": command(outcome)},
        "detailed_evaluation_results": {
            "format": "json", "file_path": f"outcomes/{outcome.key}.json", "hash_algorithm": "sha256",
            "checksum": sha256((outcome.model_dump_json(indent=1) + "\n").encode()), "total_rows": outcome.n,
        },
    }  # fmt: skip


def eval_results(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """File name -> YAML list for a model's repository on the hub, one file a method; the value is in per cent."""
    by_method: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_method.setdefault(outcome.cell.method, []).append(outcome)
    made = {}
    for name, theirs in sorted(by_method.items()):
        entries = [
            {"dataset": {"id": o.cell.dataset, "task_id": o.cell.protocol.id, "revision": o.cell.dataset_digest},
             "value": round(100 * robust(o).value, 2), "date": f"{made_at(o):%Y-%m-%d}",
             "source": {"name": "VLM Gauntlet", "url": f"outcomes/{o.key}.json"},
             "notes": f"{o.cell.backbone}, n = {o.n}, outcome {o.key}"}
            for o in theirs
        ]  # fmt: skip
        made[f"{file_name(name)}.yaml"] = yaml(entries)
    return made


def codecheck(card: Card, claims: Sequence[Claim], verdicts: Mapping[str, Verdict]) -> str:
    """`codecheck.yml` of a method: its paper, and of each claim that was tested the verdict.

    It keeps those rules of configuration 2.0 that a program can keep (`rules-2.0.yml` of codecheckers/register). What
    only people can give is left out, never made up: certificate and report (CC-CFG-011, 025), ORCIDs (010, 020).
    """
    tested = [c for c in claims if c.method == card.id and verdicts[c.id].word in TESTED]
    words = Counter(verdicts[c.id].word for c in tested)
    return "---\n" + yaml({
        "version": "https://codecheck.org.uk/spec/config/2.0/",
        "manifest": [
            {"file": f"claims/{file_name(card.id)}.html",
             "comment": f"{c.id}: {c.value}; {verdicts[c.id].word}. {verdicts[c.id].reason}"} for c in tested
        ],
        "codechecker": [{"name": "VLM Gauntlet (by program; nobody signs a certificate)"}],
        "paper": {"title": card.paper, "authors": [{"name": card.authors}], "reference": card.url or "unknown"},
        "summary": ", ".join(f"{n} {word}" for word, n in sorted(words.items())) or "no claim was tested",
        "repository": card.code,
    })  # fmt: skip


def yaml(value: object) -> str:
    """Plain data as YAML: blocks for tables and lists, JSON for what stands in them, which every parser reads."""
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: object, margin: str) -> list[str]:
    if isinstance(value, Mapping) and value:
        lines = []
        for key, inner in value.items():
            nested = isinstance(inner, Mapping | list) and inner
            lines.append(f"{margin}{key}:" + ("" if nested else f" {_plain(inner)}"))
            lines += _lines(inner, f"{margin}  ") if nested else []
        return lines
    if isinstance(value, list) and value:
        return [line for item in value for line in _item(item, margin)]
    return [margin + _plain(value)]


def _item(value: object, margin: str) -> list[str]:
    first, *rest = _lines(value, f"{margin}  ")
    return [f"{margin}- {first.removeprefix(f'{margin}  ')}", *rest]


def _plain(value: object) -> str:
    return json.dumps(value)


def system_json(outcomes: Sequence[Outcome]) -> str:
    """Where the outcomes were made, as they tell it: devices and versions, each once, with how many cells."""
    places = Counter((o.provenance.device, tuple(sorted(o.provenance.versions.items()))) for o in outcomes)
    return as_json([
        {"device": device, "versions": dict(versions), "outcomes": count}
        for (device, versions), count in sorted(places.items())
    ])  # fmt: skip
