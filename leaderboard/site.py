"""The static site: front page, pages of methods, data sets, claims and retrieval, raw outcomes, the tables as files."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from shlex import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vlm_gauntlet.attacks.levels import LEVELS
from vlm_gauntlet.fixtures.errors import GauntletError
from vlm_gauntlet.fixtures.files import writing
from vlm_gauntlet.fixtures.protocols import Protocol
from vlm_gauntlet.fixtures.records import Outcome
from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.methods.responses import responses_to
from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome
from vlm_gauntlet.suites.versions import version_words

from . import bibtex, formatting, table
from .beside import beside, cores
from .cell_pages import cell_link, histories, row_anchor, row_link, write_cell_pages
from .chart import chart, charted
from .claim_pages import write_claim_pages
from .control_numbers import standing
from .controls import controls
from .controls_page import write_controls_page
from .evidence import MAKERS, Evidence
from .exports import to_csv, to_json, to_latex
from .findings_page import write_findings_page
from .flags import MASKING
from .front_page import EMBEDDED, board_id, write_front_page
from .left_out import left_out
from .method_page import MethodPages
from .missing import lacks
from .nights import night
from .nights_page import write_nights
from .optimality_page import drawings, write_optimality_page
from .overall import boards
from .paper_pages import paths, write_paper_pages
from .publishing import publish, write_or_keep
from .rank_groups import all_remaining, rank_ranges, row_key
from .reference_pages import FILTERS, Known, write_reference_pages
from .retrieval_page import write_retrieval_page
from .rows import Block, Row, headline
from .series import series
from .series_page import write_series_page
from .statistics import wilson
from .submit_page import write_submit_page
from .suite_pages import suite_boards, write_suite_pages
from .sweeps import sweeps
from .transfer_page import write_transfer_page
from .verdicts import verdicts
from .worst_case import NEVER_BROKEN, WRONG_ANYWAY

TEMPLATES = Path(__file__).parent / "templates"
MARKER = ".gauntlet-site"
# A drawing takes tens of milliseconds; a board of hundreds of blocks draws only its fullest.
CHARTS = 6
MANY = 1000  # outcomes from which a second process writes the pages of cells: less takes no second


def environment() -> Environment:
    """The Jinja environment. Escaping is on for every template: `select_autoescape` would miss `.html.j2`."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        auto_reload=False,  # no template changes while a board is made
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": formatting.percent, "interval": formatting.interval, "threat": formatting.threat_words,
        "file": formatting.file_name,
        "protocol": _protocol_terms, "command": formatting.command, "label": table.label,
        "bibtex_paper": bibtex.of_paper, "bibtex_cell": bibtex.of_cell, "lacks": lacks,
        "norm": formatting.NORMS.__getitem__, "signed": formatting.signed, "paper": paths().__getitem__,
        "board_id": board_id, "cell_link": cell_link, "row_link": row_link, "row_anchor": row_anchor, "quoted": quote,
        "flag_names": table.flag_names, "other_versions": _other_versions, "row_key": row_key,
    } | FILTERS  # fmt: skip
    made.tests["responded"] = lambda claim: bool(responses_to(claim))
    made.globals |= {
        "responses_to": responses_to,
        "wilson": wilson, "MASKING": MASKING, "NEVER_BROKEN": NEVER_BROKEN, "WRONG_ANYWAY": WRONG_ANYWAY,
        "EMBEDDED": EMBEDDED, "LEVELS": LEVELS, "MAKERS": MAKERS,
    }  # fmt: skip
    return made


def build_site(
    outcomes: Sequence[Outcome] | Evidence,
    out: Path,
    *,
    retrieval: Sequence[RetrievalOutcome] = (),
    made: datetime | None = None,
    previous: Evidence | Sequence[Evidence] | None = None,
) -> Path:
    """Renders the board into a folder, whole or not at all.

    Args:
        outcomes: of the matrix; or a whole folder, judged (`evidence.gather`).
        out: a folder that is absent, empty, or an earlier site.
        retrieval: outcomes of image-text retrieval; with the others at least one.
        made: time shown on the pages, default: that of the newest outcome.
        previous: the evidence of earlier nights: what changed since the newest is a page, a cell's history has all.

    Returns:
        The front page.

    Raises:
        GauntletError: there is no outcome; or `out` holds something that is not a site of ours, and is left as it was;
            or the disk is full, or the folder above it cannot be written.
    """
    evidence = outcomes if isinstance(outcomes, Evidence) else Evidence(sound=outcomes, retrieval=retrieval)
    if not (evidence.sound or evidence.retrieval or evidence.unranked or evidence.aside):
        raise GauntletError(
            "no outcomes", expected="at least one outcome file", where="--outcomes",
            fix="make some: pytest suites/ -m fast --outcomes outcomes (or gauntlet run --help for one cell)",
        )  # fmt: skip
    before = sorted([previous] if isinstance(previous, Evidence) else previous or (), key=newest)
    out = out.resolve()
    _refuse_foreign(out)
    with writing(out, fix="make room, or choose another --out; the pages that were there are as they were"):
        publish(out, lambda fresh: _write_pages(evidence, fresh, made or newest(evidence), out, before))
    return out / "index.html"


def newest(evidence: Evidence) -> datetime:
    """When the newest outcome was made: pages tell no other time, so that the same outcomes give the same bytes."""
    made = [o.provenance.made for o in (*evidence.sound, *evidence.unranked)]
    made += [o.provenance.made for o in evidence.retrieval]
    return max((at if at.tzinfo else at.replace(tzinfo=UTC) for at in made), default=datetime.fromtimestamp(0, UTC))


def _refuse_foreign(out: Path) -> None:
    if not out.exists() or (out.is_dir() and ((out / MARKER).is_file() or not any(out.iterdir()))):
        return
    raise GauntletError(
        f"{out} holds something else", expected=f"no folder, an empty one, or an earlier site (with {MARKER})",
        where="--out", fix="choose another folder; nothing was changed",
    )  # fmt: skip


def _charts(blocks: dict[Block, list[Row]]) -> dict[Block, Markup | None]:
    fullest = sorted(blocks, key=lambda block: -len(charted(blocks[block])))[:CHARTS]
    return {
        block: chart(
            blocks[block], f"chart-{place}", f"{block[0]}, {block[1]}, {formatting.threat_words(found.threat)}"
        )
        for place, block in enumerate(fullest, 1)
        for found in blocks[block][:1]
    }


@cache
def _protocol_terms(protocol: Protocol) -> Markup:
    """The protocol as terms of a definition list; thousands of cells share a few protocols."""
    line = Markup("<dt>{}</dt><dd>{}</dd>\n")
    return Markup("").join(line.format(term, text) for term, text in formatting.protocol_words(protocol))


def _other_versions(outcome: Outcome | RetrievalOutcome) -> str:
    """How the versions that decide numbers differ from those where the board is made."""
    return version_words(outcome.provenance.versions)


def _write_pages(evidence: Evidence, out: Path, made: datetime, old: Path, before: Sequence[Evidence]) -> None:
    found, retrieval = evidence.rows(), evidence.retrieval
    outcomes = [*evidence.sound, *evidence.unranked]
    by_method: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_method[row.method].append(row)
    pages = environment()
    numbers = evidence.controls
    shared: dict[str, object] = {
        "made": made.astimezone(UTC).strftime("%d %B %Y, %H:%M UTC"), "count": len(outcomes) + len(retrieval),
        "retrieval": len(retrieval), "left_out": left_out(own=True), "evidence": evidence,
        "control_numbers": standing(numbers),
        "nights": bool(before), "night_bibtex": bibtex.of_night(outcomes, retrieval, made),
    }  # fmt: skip

    for folder in ("methods", "datasets", "outcomes"):
        (out / folder).mkdir()

    def write(name: str, text: str) -> None:
        (out / name).write_text(text, encoding="utf-8")

    charts = _charts(headline(found))
    left = all_remaining(found)
    ranks = rank_ranges(found, left)
    swept = sweeps(found)
    of_row = {row_key(row): sweep for sweep in swept for row in sweep.rows}
    shared |= {"charts": charts, "ranks": ranks, "swept": of_row, "drawn": drawings(swept),
               "all_methods": sorted(by_method), "all_datasets": sorted({row.dataset for row in found})}  # fmt: skip
    judged = verdicts(claims(), evidence.sound)
    lines, known = boards(found, left, ranks), controls(found)
    shared["suites"] = suite_boards(lines, left, ranks)
    changed = night(before[-1].sound, evidence.sound, claims()) if before else None
    earlier = [o for one in before for o in (*one.sound, *one.unranked)]

    def write_cells() -> None:
        write_cell_pages(pages, shared, found, judged, histories(outcomes, earlier), out)
        for outcome in outcomes:
            name, data = f"outcomes/{outcome.key}.json", (outcome.model_dump_json(indent=1) + "\n").encode()
            write_or_keep(out / name, old / name, data)

    with beside(write_cells, apart=len(outcomes) >= MANY and cores() > 1):
        write_front_page(pages, shared, lines, found, known, judged, out, changed)
        write_suite_pages(pages, shared, judged, out)
        method_pages = MethodPages(pages, shared, found, lines, known, judged, left, swept)
        for name, theirs in by_method.items():
            method_pages.write(name, theirs, out)
        write_optimality_page(pages, shared, swept, out)
        write_transfer_page(pages, shared, found, out)
        write_series_page(pages, shared, series(evidence.sound), out)
        write_controls_page(pages, shared, numbers, out)
        write_claim_pages(pages, shared, evidence.sound, found, judged, out)
        write_paper_pages(pages, shared, judged, out)
        write_reference_pages(pages, shared, evidence, Known(found, judged, swept), out)
        if retrieval:
            write_retrieval_page(pages, shared, retrieval, out, linked=frozenset(by_method))
        if changed is not None:
            past = [night(one.sound, two.sound) for one, two in pairwise(before)]
            write_nights(pages, shared, changed, out, past)
        write_findings_page(pages, shared, out)
        write_submit_page(pages, shared, out)
        write("cheating.html", pages.get_template("cheating.html.j2").render(**shared, root=""))
        for asset in ("style.css", "site.js"):
            write(asset, (TEMPLATES / asset).read_text(encoding="utf-8"))
        write("results.csv", to_csv(found, ranks, evidence.told))
        write("results.json", to_json(found, ranks, evidence.told))
        write("table.tex", to_latex(found, ranks))
    write(MARKER, "This folder was made by `gauntlet board` and is replaced as a whole.\n")
