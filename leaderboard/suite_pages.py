"""One page a suite of data sets: the leaderboard as its papers average, with what is missing of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.methods.claims import claims

from .claimed import ClaimIndex
from .formatting import file_name
from .front_page import by_kind
from .overall import EMBEDDED_SUITE, Board, Suite, averaged_over, named_suites
from .rank_groups import Key, Left, RankRange
from .verdicts import Verdict


@dataclass(frozen=True)
class SuiteBoard:
    """A suite of which something was run.

    Args:
        suite: named, with its data sets.
        boards: of its lines.
        tables: source and table of every claim that averages over it.
    """

    suite: Suite
    boards: tuple[Board, ...]
    tables: tuple[tuple[str, str], ...]

    @property
    def page(self) -> str:
        """Its page under the site."""
        return f"suite-{file_name(self.suite.name)}.html"

    @property
    def whole(self) -> int:
        """Lines that have a mean."""
        return sum(not line.absent for board in self.boards for line in board.lines)

    @property
    def of(self) -> int:
        """Lines that have any of its data sets."""
        return sum(len(board.lines) for board in self.boards)

    @property
    def origin(self) -> str:
        """Who chose these data sets, where no table does."""
        return f"the data sets of the tier {EMBEDDED_SUITE}" if self.suite.name == EMBEDDED_SUITE else ""


def suite_boards(found: Sequence[Board], left: Mapping[Key, Left], ranks: Mapping[Key, RankRange]) -> list[SuiteBoard]:
    """Every named suite of which at least one line has a data set, those with most means first.

    Args:
        found, left, ranks: `boards`, and what they were made of.
    """
    tables: dict[str, set[tuple[str, str]]] = {}
    for claim in claims():
        tables.setdefault(claim.dataset, set()).add((claim.source, claim.table))
    made = [
        SuiteBoard(suite, tuple(averaged_over(found, suite, left, ranks)), tuple(sorted(tables.get(suite.name, ()))))
        for suite in named_suites()
    ]
    return sorted((one for one in made if one.boards), key=lambda one: (-one.whole, one.suite.name))


def write_suite_pages(
    pages: Environment, shared: Mapping[str, object], judged: Mapping[str, Verdict], out: Path
) -> None:
    """Writes `suite-<name>.html` of each into a site.

    Args:
        pages, shared: environment, and what every page knows: `suite_boards` as `suites`.
        judged: verdict of every claim.
        out: the site's folder.
    """
    template, index = pages.get_template("suite.html.j2"), ClaimIndex(claims(), judged)
    for one in shared["suites"]:  # type: ignore[attr-defined]
        text = template.render(**shared, root="", index=index, one=one, kinds=by_kind(one.boards))
        (out / one.page).write_text(text, encoding="utf-8")
