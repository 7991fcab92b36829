"""The page that sorts all defences: paradigm, challenge, what is optimised, code; surveys' words beside the cards'."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.fixtures.taxonomies import Sorted, Taxonomy, taxonomies
from vlm_gauntlet.methods.card import Card
from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.methods.listed import parts

PARADIGMS = {
    "undefended": "no defence: what all others are measured against",
    "training-free": "changes nothing of the model; works on the test image, its embedding or the text",
    "test-time-adaptation": "optimises something anew for each test image",
    "fine-tuning": "changes the weights, before any test image",
    "prompt-tuning": "keeps the weights, and learns prompts or pixels around the picture",
    "external": "a model beside CLIP",
}
REPOSITORY = re.compile(r"([\w.-]+/[\w.-]+)(?: @ ([0-9a-f]{7,40})\b)?")


@dataclass(frozen=True)
class Placed:
    """One defence as the page tells it.

    Args:
        page: where more of it stands: its own page, or that of the claims about it; empty where there is neither.
        repository: address of the official code; empty where the card names none.
        said: how surveys sort it, by their id.
    """

    card: Card
    page: str
    repository: str
    said: Mapping[str, Sorted]

    @property
    def challenges(self) -> tuple[str, ...]:
        """What surveys say that it addresses."""
        return tuple(dict.fromkeys(word for said in self.said.values() for word in said.challenges))


def repository(code: str) -> str:
    """The address that a card's `code` begins with, at its commit; empty where it begins with words."""
    found = REPOSITORY.match(code)
    if not found:
        return ""
    return f"https://github.com/{found[1]}" + (f"/tree/{found[2]}" if found[2] else "")


def placed(run: Sequence[str], surveys: Sequence[Taxonomy]) -> dict[str, list[Placed]]:
    """All defences by paradigm, in the order of PARADIGMS, each by year and name.

    Args:
        run: methods that have a page of their own.
        surveys: that sort some of them.
    """
    said: dict[str, dict[str, Sorted]] = defaultdict(dict)
    for survey in surveys:
        for row in survey.row:
            said[row.method][survey.id] = row
    told = {claim.method for claim in claims()}
    found: dict[str, list[Placed]] = {paradigm: [] for paradigm in PARADIGMS}
    for name, card in parts().usable.items():
        page = f"methods/{name}.html" if name in run else f"claims/{name}.html" if name in told else ""
        found[card.paradigm].append(Placed(card, page, repository(card.code), said.get(name, {})))
    return {key: sorted(those, key=lambda one: (one.card.year, one.card.id)) for key, those in found.items() if those}


def write_taxonomy_page(pages: Environment, shared: Mapping[str, object], run: Sequence[str], out: Path) -> None:
    """Writes `taxonomy.html` into a site.

    Args:
        pages, shared: environment, and what every page knows.
        run: methods that have a page of their own.
        out: the site's folder.
    """
    known, told = parts().usable, {claim.method for claim in claims()}
    pages_of = {name: f"claims/{name}.html" for name in told} | {name: f"methods/{name}.html" for name in run}
    text = pages.get_template("taxonomy.html.j2").render(
        **shared, root="", by_paradigm=placed(run, taxonomies()), paradigms=PARADIGMS, surveys=taxonomies(),
        cards=known, pages_of=pages_of,
    )  # fmt: skip
    (out / "taxonomy.html").write_text(text, encoding="utf-8")
