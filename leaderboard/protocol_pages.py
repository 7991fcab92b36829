"""Pages of protocols: every field of each, the cells that were run under it, and who reports by it."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.attacks.levels import level
from vlm_gauntlet.attacks.protocols import parts as protocol_files
from vlm_gauntlet.attacks.protocols import protocols
from vlm_gauntlet.attacks.registry import attacks, parameters
from vlm_gauntlet.fixtures.protocols import NO_ATTACK, Protocol
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.fixtures.reported import UNKNOWN, Component, ReportedProtocol, reported_protocols
from vlm_gauntlet.fixtures.reported import parts as reported_files
from vlm_gauntlet.fixtures.sources import sources
from vlm_gauntlet.methods.claims import Claim, claims
from vlm_gauntlet.suites.runnable import runnable

from .attack_facts import attack_facts, in_words
from .formatting import KNOWLEDGE, protocol_words, threat_words
from .front_page import EMBEDDED
from .matching import against
from .places import ELSEWHERE, family_page, protocol_page
from .reported_tables import by, tables
from .rows import Row
from .verdicts import Verdict

MOST = 60  # cells of a page's table; all of them are in the files of the site
EVALUATION = ("scoring", "prompts", "preprocessing")  # the last fields of a protocol, without an attack's
# In what our protocols differ from reported ones by design: they ask for the data set's own sentences and all samples.
ASKED = frozenset({"prompts", "preprocessing", "samples"})
RESOLUTIONS = {
    "model": "the model's input", "native": "native pixels",
    "native-small": "native pixels for CIFAR and STL10, else the model's input",
}  # fmt: skip
PROBES = ("imagenet", "cifar10")  # data sets for which a source may have settings of their own


@dataclass(frozen=True)
class Member:
    """One protocol of a family: cells that were run under it, and rows whose best attacker it is."""

    protocol: Protocol
    level: str
    cells: int
    best: int


@dataclass(frozen=True)
class Ran:
    """An outcome on the page of its protocol, and whether it is its row's best attacker."""

    row: Row
    outcome: Outcome
    best: bool


def ran_by_page(rows: Sequence[Row]) -> dict[str, list[Ran]]:
    """The outcomes of all rows by the page of their protocol's family: real CLIP first, then by name."""
    found: dict[str, dict[str, Ran]] = defaultdict(dict)
    for row in rows:
        for outcome in row.outcomes:
            best = not row.control and row.beaten is not None and row.beaten.outcome.key == outcome.key
            page = protocol_page(outcome.cell.protocol.id).partition("#")[0]
            if best or outcome.key not in found[page]:  # an attack on text alone stands in two rows
                found[page][outcome.key] = Ran(row, outcome, best)
    return {page: sorted(theirs.values(), key=_place) for page, theirs in found.items()}


def _place(one: Ran) -> tuple[object, ...]:
    cell = one.outcome.cell
    return (cell.backbone in EMBEDDED, cell.protocol.id, cell.backbone, cell.dataset, cell.method, cell.seed, cell.key)


def fields(protocol: Protocol) -> list[tuple[str, str, str]]:
    """What all protocols of a family share: (field, value, what the attack's documentation says of it)."""
    if protocol.attack.name == NO_ATTACK:
        return [(name, told, "") for name, told in protocol_words(protocol) if name in EVALUATION]
    says = {one.name: one.says for one in attack_facts(protocol.attack.name).parameters}
    found = [
        (name, f"{value} × ε" if name == "step_size" else in_words(value), says.get(name, ""))
        for name, value in parameters(protocol.attack).items()
    ]
    place = {name: at for at, name in enumerate(says)}
    found.sort(key=lambda line: place.get(line[0], len(place)))
    return [*found, *((name, told, "") for name, told in protocol_words(protocol) if name in EVALUATION)]


@cache
def reporters() -> dict[str, tuple[ReportedProtocol, ...]]:
    """Protocol of ours -> those of sources that are the same but for sentences, preprocessing and samples."""
    found: dict[str, dict[str, ReportedProtocol]] = defaultdict(dict)
    ours: dict[tuple[object, ...], list[Protocol]] = defaultdict(list)
    for protocol in protocols().values():
        threat = protocol.threat
        ours[protocol.attack.name, threat.norm, threat.eps, threat.knowledge].append(protocol)
    for reported in reported_protocols().values():
        for component in reported.components:
            key = (component.attack, reported.norm, reported.eps, reported.knowledge)
            for protocol in ours.get(key, ()):
                if any(_same(reported, probe, protocol) for probe in PROBES):
                    found[protocol.id][reported.id] = reported
    return {name: tuple(theirs.values()) for name, theirs in found.items()}


def _same(reported: ReportedProtocol, dataset: str, protocol: Protocol) -> bool:
    return {one.field for one in against(reported.id, dataset, dataset, protocol)[1]} <= ASKED


def component_fields(component: Component) -> Iterator[tuple[str, str]]:
    """An attack of a reported protocol, field by field."""
    for name in component.choices:
        value = getattr(component, name)
        words = in_words(value)
        yield name.replace("_", " "), f"{words} × ε" if name == "step_size" and value != UNKNOWN else words


def reported_fields(reported: ReportedProtocol) -> Iterator[tuple[str, str]]:
    """A reported protocol without its attacks, field by field; what does not apply is left out."""
    budget = f"{reported.norm}, ε = {reported.eps}".replace("linf", "L∞").replace("l2", "L2")
    if not reported.clean:
        yield "threat model", f"{budget}; modality: {reported.modality}"
        yield "attacker's knowledge", KNOWLEDGE.get(reported.knowledge, reported.knowledge)
        yield "ε applies at", RESOLUTIONS.get(reported.attack_resolution, reported.attack_resolution)
        yield "8 bits between", in_words(reported.quantised)
    for name in ("precision", "prompts", "preprocessing", "samples"):
        yield name, getattr(reported, name)
    if reported.attacks_text:
        for name, value in reported.text.model_dump().items():
            yield f"text: {name.replace('_', ' ')}", str(value)


def write_protocol_pages(
    pages: Environment, shared: Mapping[str, object], rows: Sequence[Row], judged: Mapping[str, Verdict], out: Path
) -> None:
    """Writes `protocols/<file>.html` and `protocols/reported/<source>.html` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        rows: of all methods.
        judged: verdict of every claim.
        out: the site's folder.
    """
    (out / "protocols" / "reported").mkdir(parents=True)
    ran, reports = ran_by_page(rows), by(claims(), lambda claim: claim.protocol)
    ours = {family_page(stem): made for stem, made in protocol_files().usable.items()}
    if theirs := ran.get(family_page(ELSEWHERE)):
        ours[family_page(ELSEWHERE)] = list({one.outcome.cell.protocol.id: one.outcome.cell.protocol for one in theirs}
                                            .values())  # fmt: skip
    for page, made in ours.items():
        _write_family(pages, shared, made, page, ran.get(page, []), reports, judged, out)
    template = pages.get_template("reported.html.j2")
    for family, made_there in reported_files().usable.items():
        page = family_page(family, reported=True)
        lines = [
            (one, list(reported_fields(one)), [(c, list(component_fields(c))) for c in one.components if c.attack],
             runnable(one, PROBES[0]).obstacles, tables(reports.get(one.id, []), judged))
            for one in made_there
        ]  # fmt: skip
        there = ran.get(page, [])
        text = template.render(
            **shared, root="../../", family=family, source=sources().get(family), lines=lines, known=attacks(),
            ran=there[:MOST], more=max(0, len(there) - MOST),
        )  # fmt: skip
        (out / page).write_text(text, encoding="utf-8")


def _write_family(
    pages: Environment,
    shared: Mapping[str, object],
    made: Sequence[Protocol],
    page: str,
    ran: Sequence[Ran],
    reports: Mapping[str, Sequence[Claim]],
    judged: Mapping[str, Verdict],
    out: Path,
) -> None:
    cells = Counter(one.outcome.cell.protocol.id for one in ran)
    best = Counter(one.outcome.cell.protocol.id for one in ran if one.best)
    by_source = {p.id: p for protocol in made for p in reporters().get(protocol.id, ())}
    known = page != family_page(ELSEWHERE)
    text = pages.get_template("protocol.html.j2").render(
        **shared, root="../", name=Path(page).stem, known=known, title=made[0].title.partition(", made ")[0],
        first=made[0], shared_fields=fields(made[0]) if known else (), says=threat_words, knowledge=KNOWLEDGE,
        members=[Member(p, level(p), cells[p.id], best[p.id]) for p in made],
        ran=ran[:MOST], more=max(0, len(ran) - MOST), reporters=sorted(by_source.values(), key=lambda p: p.id),
        tables=tables([claim for name in by_source for claim in reports.get(name, ())], judged),
    )  # fmt: skip
    (out / page).write_text(text, encoding="utf-8")
