"""The front page: one leaderboard a kind of backbone, the night in a sentence, controls, what was set aside."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment
from markupsafe import Markup

from vlm_gauntlet.methods.claims import claims

from . import in_a_sentence as told
from .chart import chart
from .claimed import ClaimIndex
from .controls import Control
from .formatting import file_name, threat_words
from .nights import Night
from .overall import Board
from .rows import Row
from .verdicts import Verdict

EMBEDDED = frozenset({"miniclip-vit", "miniclip-cnn"})
DRAWN = 16  # lines of a drawing: more of them tell nothing, and their names run together
KINDS = (("clip", "Real CLIP"), ("toy", "Embedded backbones"))


def board_id(board: Board) -> str:
    """A board's anchor."""
    backbone, norm, eps, modality, resolution = board.group
    parts = [backbone, norm, str(eps), *([modality] * (modality != "image")), *([resolution] * (resolution != "model"))]
    return file_name("-".join(parts)).lower()


def write_front_page(
    pages: Environment,
    shared: dict[str, object],
    found: Sequence[Board],
    rows: Sequence[Row],
    controls: Sequence[Control],
    judged: Mapping[str, Verdict],
    out: Path,
    changed: Night | None = None,
) -> None:
    """Writes `index.html` and the script of all pages into a site.

    Args:
        pages, shared: environment, and what every page knows.
        found, controls: of these rows.
        judged: verdict of every claim.
        out: the site's folder.
        changed: since the night before, where there is one.
    """
    known = claims()
    text = pages.get_template("index.html.j2").render(
        **shared, root="", index=ClaimIndex(known, judged),
        kinds=by_kind(found),
        controls=controls, rows=rows, drawing=_drawing(found),
        ran=told.ran(found, len({o.key for row in rows for o in row.outcomes})), holds=told.holds(found, judged),
        left=told.left_of_t0(found),
        fell=None if changed is None else told.fell(changed), controls_told=told.failed(controls),
    )  # fmt: skip
    (out / "index.html").write_text(text, encoding="utf-8")


def by_kind(found: Sequence[Board]) -> list[tuple[str, str, list[Board]]]:
    """Boards of real CLIP and of embedded backbones, which never share a table: key, title, boards."""
    return [(key, title, theirs) for key, title in KINDS if (theirs := [b for b in found if kind(b) == key])]


def kind(board: Board) -> str:
    """`toy` for an embedded backbone, whose numbers stand in a table of their own, else `clip`."""
    return "toy" if board.backbone in EMBEDDED else "clip"


def _drawing(found: Sequence[Board]) -> Markup | None:
    """The trade-off of robustness, accuracy and cost on the board with most lines that rank, real CLIP first."""
    drawable = [b for b in found if sum(line.state == "valid" for line in b.lines) > 1]
    if not drawable:
        return None
    board = min(drawable, key=lambda b: (kind(b) == "toy", -sum(line.state == "valid" for line in b.lines)))
    lines = [line for line in board.lines if line.state == "valid"][:DRAWN]
    return chart(lines, "trade-off", f"{board.backbone}, {board.suite.words}, {threat_words(board.threat)}")
