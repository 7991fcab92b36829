"""`gauntlet methods|attacks|datasets|protocols|backbones`: what there is, for people and (with --json) for machines."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from .console import table

if TYPE_CHECKING:
    from vlm_gauntlet.fixtures.datasets import Dataset

Json = Annotated[bool, typer.Option("--json", help="one JSON array")]


def _show(records: Sequence[dict[str, object]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(records, indent=1))
        return
    table([list(record.values()) for record in records], list(records[0]))


def methods(as_json: Json = False) -> None:
    """Defences, with paper, paradigm and deviations; and those that cannot be used.

    They are read from their cards. What only running their code shows, `gauntlet doctor` says.

    Example: gauntlet methods --json
    """
    from vlm_gauntlet.methods.listed import parts

    known = parts()
    cards, unusable = {**known.usable}, {**known.unusable}
    if known.entries:  # whose cards are code of theirs, which runs in processes of its own
        from vlm_gauntlet.suites.described import parts as installed

        cards |= {name: told.card for name, told in installed().usable.items()}
        unusable |= installed().unusable
    columns = ("id", "name", "year", "venue", "paradigm", "deviations", "unusable")
    found: list[tuple[object, ...]] = []
    for name, card in cards.items():
        deviations = " ".join(f"{d.name}={'|'.join(d.choices)}" for d in card.deviations)
        found.append((name, card.name, card.year, card.venue, card.paradigm, deviations, ""))
    if as_json:
        broken = [(name, None, None, None, None, None, str(error)) for name, error in unusable.items()]
        _show([dict(zip(columns, record, strict=True)) for record in [*found, *broken]], True)
        return
    table([record[:-1] for record in found], columns[:-1])
    for name, error in unusable.items():
        typer.echo(f"unusable: {name}: {error.short} (`gauntlet doctor` says where, and what to do)")


def attacks(as_json: Json = False) -> None:
    """Attacks that a protocol can name; with --json their parameters and defaults. Example: gauntlet attacks"""
    from vlm_gauntlet.attacks.registry import attacks as registered
    from vlm_gauntlet.attacks.registry import default_of, settable

    _show(
        [
            {
                "id": name, "title": kind.info.title, "modality": kind.info.modality,
                "norms": " ".join(kind.info.norms), "source": kind.info.source,
                **({"parameters": {p: str(default_of(kind, p)) for p in settable(kind)}} if as_json else {}),
            }
            for name, kind in registered().items()
        ],
        as_json,
    )  # fmt: skip


def datasets(as_json: Json = False) -> None:
    """Data sets on this machine, and those that can be had, with what they hold and under which licence.

    Example: gauntlet datasets
    """
    from vlm_gauntlet.fixtures.datasets import datasets as here
    from vlm_gauntlet.fixtures.natural_sets import natural_sets

    found, known = here(), natural_sets()
    records: list[dict[str, object]] = []
    for name in sorted({*found, *known}):
        each = known.get(name)
        record: dict[str, object] = {"id": name, "here": name in found}
        record["classes"] = _classes(found[name]) if name in found else (each and each.classes) or "retrieval"
        record["samples"] = (each and each.samples) or ""
        record["licence"] = each.licence if each else "embedded: see NOTICE"
        record["from"] = each.origin if each else ""
        if as_json and each:
            record |= {"title": each.title, "hub": each.hub, "revision": each.revision, "megabytes": each.megabytes,
                       "population": each.population, "of": each.of, "path": str(found[name].folder) if name in found
                       else ""}  # fmt: skip
        records.append(record)
    _show(records, as_json)
    if not as_json:
        typer.echo(
            "samples: of the whole test split; gauntlet data get ID fetches a set, gauntlet data check ID looks at it"
        )


def _classes(data: "Dataset") -> str | int:
    """Number of classes; a set that cannot be read hides none of the others."""
    from vlm_gauntlet.fixtures.errors import GauntletError

    try:
        return "retrieval" if data.retrieval else len(data.class_names)
    except GauntletError:
        return f"unusable: gauntlet data check {data.name}"


def protocols(as_json: Json = False) -> None:
    """Protocols: all that fixes an evaluation. Example: gauntlet protocols --json"""
    from vlm_gauntlet.attacks.protocols import protocols as known

    if as_json:
        typer.echo(json.dumps([p.model_dump(mode="json") for p in known().values()], indent=1))
        return
    _show([{"id": p.id, "knowledge": p.threat.knowledge, "title": p.title} for p in known().values()], False)


def backbones(as_json: Json = False) -> None:
    """Embedded backbones; any open_clip model is `open_clip:<model>/<pretrained>`. Example: gauntlet backbones"""
    import tomllib

    from vlm_gauntlet.fixtures.embedded import embedded

    pins = {name: tomllib.loads((folder / "backbone.toml").read_text()) for name, folder in embedded().items()}
    _show([{"id": n, "bytes": p["size"], "sha256": p["sha256"], "label": p["label"]} for n, p in pins.items()], as_json)
