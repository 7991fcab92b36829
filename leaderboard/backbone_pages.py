"""Pages of backbones: which weights, what it gives undefended, what stands on it, and what sources report on it."""

import json
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.fixtures.embedded import embedded
from vlm_gauntlet.fixtures.parts import in_folders
from vlm_gauntlet.fixtures.stand_in import stands_for
from vlm_gauntlet.methods.claims import claims
from vlm_gauntlet.methods.released import FILE, HERE, Released, read_released

from .control_numbers import BACKBONE, Held
from .matching import BACKBONES
from .places import backbone_page, known_backbones
from .reported_tables import by, tables
from .rows import Block, Row, headline
from .verdicts import Verdict


@dataclass(frozen=True)
class BackboneFacts:
    """What is known of a backbone without loading it.

    Args:
        kind: `embedded`, `open_clip` (weights that open_clip fetches by a tag, or from a hub), `stand-in` (weights
            that are drawn at random) or `unknown`.
        reported: what sources call it; empty where none reports on it.
        digest, megabytes, licence: of the file of weights, where it travels with the code.
        tower, text: its parts in words; likewise.
        pixels: side of its input; likewise.
    """

    name: str
    kind: str
    reported: str = ""
    digest: str = ""
    megabytes: float | None = None
    licence: str = ""
    tower: str = ""
    text: str = ""
    pixels: int | None = None
    normalised: str = ""


@cache
def backbone_facts(name: str) -> BackboneFacts:
    """What is known of a backbone of this name; the same on every machine."""
    if folder := embedded().get(name):
        return _embedded(name, folder)
    reported = next((told for told, real in BACKBONES.items() if real == name), "")
    if stands_for(name):
        return BackboneFacts(name, "stand-in")
    return BackboneFacts(name, "open_clip" if name.startswith("open_clip:") else "unknown", reported)


def _embedded(name: str, folder: Path) -> BackboneFacts:
    pins = tomllib.loads((folder / "backbone.toml").read_text(encoding="utf-8"))
    config = json.loads((folder / "open_clip_config.json").read_text(encoding="utf-8"))
    vision, text, shown = (config["model_cfg"][key] for key in ("vision_cfg", "text_cfg", "embed_dim"))
    tower = vision.get("timm_model_name") or (
        f"ViT, patch {vision['patch_size']}, width {vision['width']}, {vision['layers']} layers"
    )
    told = f"transformer, context {text['context_length']}, width {text['width']}, {text['layers']} layers"
    prepared = config["preprocess_cfg"]
    normalised = f"mean {_numbers(prepared['mean'])}, standard deviation {_numbers(prepared['std'])}, inside the model"
    return BackboneFacts(
        name, "embedded", "", pins["sha256"], pins["size"] / 1e6, pins["label"], f"{tower}; joint space {shown}", told,
        vision["image_size"], normalised,
    )  # fmt: skip


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in dict.fromkeys(values))


@dataclass(frozen=True)
class OnData:
    """A table of the board: how many methods, how many of them rank, and which is first."""

    block: Block
    anchor: int
    rows: tuple[Row, ...]

    @property
    def ranking(self) -> list[Row]:
        """Rows that rank, best first."""
        return [row for row in self.rows if row.state == "valid"]


def names(rows: Iterable[Row], retrieved: Iterable[str] = ()) -> list[str]:
    """Backbones that have a page: the known ones, and those that outcomes or released weights name."""
    return sorted({*known_backbones(), *(row.backbone for row in rows), *retrieved, *tuned_from()})


@cache
def tuned_from() -> dict[str, list[tuple[str, Released]]]:
    """Backbone -> weights that authors released of it: (method, file)."""
    found: dict[str, list[tuple[str, Released]]] = defaultdict(list)
    for path in in_folders(HERE, FILE):
        for one in read_released(path.parent):
            found[one.backbone].append((path.parent.name, one))
    return dict(found)


def clean_of(rows: Sequence[Row]) -> list[Row]:
    """Of the undefended rows of one backbone the one of most samples on each data set, in their order."""
    largest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: (row.clean.n, -row.seed)):
        if row.method == "undefended" and row.state != "unknown here":
            largest[row.dataset] = row
    return [row for _, row in sorted(largest.items())]


def write_backbone_pages(
    pages: Environment,
    shared: Mapping[str, object],
    rows: Sequence[Row],
    judged: Mapping[str, Verdict],
    held: Sequence[Held],
    out: Path,
    retrieved: Iterable[str] = (),
) -> None:
    """Writes `backbones/<backbone>.html` into a site: of the known ones, and of those that outcomes name.

    Args:
        pages, shared: environment, and what every page knows.
        rows: on all backbones.
        judged: verdict of every claim.
        held: the control numbers.
        out: the site's folder.
        retrieved: backbones of outcomes of retrieval.
    """
    (out / "backbones").mkdir()
    template = pages.get_template("backbone.html.j2")
    theirs: dict[str, list[Row]] = defaultdict(list)
    places: dict[Block, int] = {}  # of a table on the page of its data set
    for row in rows:
        theirs[row.backbone].append(row)
    for one in {row.dataset for row in rows}:
        found = headline([row for row in rows if row.dataset == one])
        places |= {block: place for place, block in enumerate(found, 1)}
    reports, tuned = by(claims(), lambda claim: BACKBONES.get(claim.backbone, "")), tuned_from()
    searched = frozenset(retrieved)
    for name in names(rows, searched):
        own = theirs.get(name, [])
        text = template.render(
            **shared, root="../", facts=backbone_facts(name), clean=clean_of(own), tuned=tuned.get(name, []),
            on_data=[OnData(block, places[block], tuple(found)) for block, found in headline(own).items()],
            digests=Counter(o.cell.backbone_digest for row in own for o in row.outcomes).most_common(),
            held=[one for one in held if name == BACKBONE and one.control.method == "undefended"],
            tables=tables(reports.get(name, []), judged), with_captions=name in searched,
            methods=len({row.method for row in own if not row.control}),
        )  # fmt: skip
        (out / backbone_page(name)).write_text(text, encoding="utf-8")
