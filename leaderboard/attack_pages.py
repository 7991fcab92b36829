"""Pages of attacks: what one is, its parameters, the protocols that use it, and whom it broke best."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.attacks.protocols import parts as protocol_files
from vlm_gauntlet.attacks.registry import attacks
from vlm_gauntlet.fixtures.protocols import NO_ATTACK
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.fixtures.reported import reported_protocols
from vlm_gauntlet.methods.claims import Claim, claims

from .attack_facts import attack_facts
from .beaten import passes_of
from .flags import recipe
from .front_page import EMBEDDED
from .optimality import over_rows
from .places import ELSEWHERE, attack_page, family_page, protocol_page
from .reported_tables import by, tables
from .rows import Row
from .sweeps import Sweep
from .verdicts import Verdict

MOST = 60  # rows of a table; the others stand on the pages of their data sets


@dataclass(frozen=True)
class Use:
    """A family of protocols that uses an attack.

    Args:
        stem: of its file, or the source's name.
        page: of the family, from the front page's folder.
        title: in words.
        cells: that were run under it.
        passes: fewest and most encoder passes a sample among these; None without any.
        optimality: (attacker, mean, rows) of its attackers, where curves over eps were run.
    """

    stem: str
    page: str
    title: str
    cells: int
    passes: tuple[float, float] | None
    optimality: tuple[tuple[str, float, int], ...]


def names(rows: Iterable[Row]) -> list[str]:
    """Attacks that have a page: those that are known here, and those that outcomes name."""
    ran = {o.cell.protocol.attack.name for row in rows for o in row.outcomes}
    return sorted({*attacks(), *ran} - {NO_ATTACK})


def uses(ran: Mapping[str, Sequence[Outcome]], swept: Sequence[Sweep]) -> dict[str, list[Use]]:
    """Attack -> the families of protocols that use it, ours first.

    Args:
        ran: outcomes by the page of their protocol's family.
        swept: curves over eps.
    """
    means = over_rows(sweep.attackers for sweep in swept)
    found: dict[str, list[Use]] = defaultdict(list)
    ours = set()
    for stem, made in protocol_files().usable.items():
        page = family_page(stem)
        ours.add(page)
        title = made[0].title.partition(", made ")[0]
        found[made[0].attack.name].append(_use(stem, page, title, ran.get(page, ()), means))
    for page in sorted(ran.keys() - ours):
        for name in sorted({o.cell.protocol.attack.name for o in ran[page]}):
            own = [o for o in ran[page] if o.cell.protocol.attack.name == name]
            reported = page != family_page(ELSEWHERE)
            title = "as its source reports" if reported else "not known where these pages were made"
            found[name].append(_use(Path(page).stem, page, title, own, means))
    return found


def _use(stem: str, page: str, title: str, own: Sequence[Outcome], means: Mapping[str, tuple[float, int]]) -> Use:
    passes = [passes_of(outcome) for outcome in own]
    attackers = sorted({recipe(outcome) for outcome in own} & means.keys())
    told = tuple((attacker, *means[attacker]) for attacker in attackers)
    return Use(stem, page, title, len(own), (min(passes), max(passes)) if passes else None, told)


def by_page(rows: Iterable[Row]) -> dict[str, list[Outcome]]:
    """The outcomes of all rows, each once, by the page of their protocol's family."""
    found: dict[str, dict[str, Outcome]] = defaultdict(dict)
    for row in rows:
        for outcome in row.outcomes:
            found[protocol_page(outcome.cell.protocol.id).partition("#")[0]][outcome.key] = outcome
    return {page: list(own.values()) for page, own in found.items()}


def write_attack_pages(
    pages: Environment,
    shared: Mapping[str, object],
    rows: Sequence[Row],
    swept: Sequence[Sweep],
    judged: Mapping[str, Verdict],
    out: Path,
) -> None:
    """Writes `attacks/<attack>.html` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        rows: of all methods; controls count as runs, and beat nobody.
        swept: curves over eps.
        judged: verdict of every claim.
        out: the site's folder.
    """
    (out / "attacks").mkdir()
    template = pages.get_template("attack.html.j2")
    used = uses(by_page(rows), swept)
    ran: dict[str, int] = defaultdict(int)
    best: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for name in {o.cell.protocol.attack.name for o in row.outcomes} if not row.control else ():
            ran[name] += 1
        if row.beaten and not row.control:
            best[row.beaten.outcome.cell.protocol.attack.name].append(row)
    by_protocol = by(claims(), lambda claim: claim.protocol)
    spoken: dict[str, list[Claim]] = defaultdict(list)
    for reported in reported_protocols().values():
        for attack in {component.attack for component in reported.components}:
            spoken[attack] += by_protocol.get(reported.id, [])
    for name in names(rows):
        won = sorted(best[name], key=_order)
        text = template.render(
            **shared, root="../", facts=attack_facts(name), uses=used.get(name, []), ran=ran[name], won=won[:MOST],
            more=max(0, len(won) - MOST), tables=tables(spoken[name], judged),
        )  # fmt: skip
        (out / attack_page(name)).write_text(text, encoding="utf-8")


def _order(row: Row) -> tuple[object, ...]:
    left = row.beaten.accuracy.value if row.beaten else 1.0
    return (row.backbone in EMBEDDED, left, row.method, row.dataset, row.block, row.seed)
