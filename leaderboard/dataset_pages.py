"""Pages of data sets: where one comes from, what it holds, every method's row on it, and what sources report."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment

from vlm_gauntlet.fixtures.data_shards import read_shard
from vlm_gauntlet.fixtures.datasets import EMBEDDED, Dataset
from vlm_gauntlet.fixtures.known_datasets import known_datasets
from vlm_gauntlet.fixtures.natural_sets import NaturalSet, natural_sets, reported_as, set_of
from vlm_gauntlet.fixtures.prompts import template_sets
from vlm_gauntlet.fixtures.reported import reported_protocols
from vlm_gauntlet.methods.claims import Claim, claims

from .control_numbers import LIST, Held
from .places import dataset_page, known_sets
from .reported_tables import by, tables
from .rows import Row, headline
from .verdicts import Verdict

PREPROCESSING = {
    "resize-crop": "shorter side to the model's input, bicubic, centre crop: CLIP's own",
    "resize-256-crop": "shorter side to 256 for 224, bilinear, centre crop: the code of TeCoA and its descendants",
}


@dataclass(frozen=True)
class KnownSet:
    """What is known of a data set without looking for its files.

    Args:
        title: in words; the name itself of one that only outcomes know.
        natural: its pinned place; None of an embedded set, or one that nobody pinned.
        samples, classes: where a source says them; no classes where there are captions.
        kind: `embedded`, `pinned`, `reported` (sources report on it, and no place is known here) or `unknown`.
        class_names, sentences: of an embedded set, whose files travel with the code.
        templates: template set of papers -> its sentence for this set.
        lists: over which papers average, and that hold it.
        variants: other splits that papers report under the same name.
    """

    name: str
    title: str
    kind: str
    natural: NaturalSet | None = None
    samples: int | None = None
    classes: int | None = None
    class_names: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    templates: tuple[tuple[str, str], ...] = ()
    lists: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()

    @property
    def reported(self) -> str:
        """The name under which papers report it."""
        return reported_as(self.name)

    @property
    def size(self) -> str:
        """`1,000 pictures, 10 classes`, as far as it is known; empty where nothing is."""
        pictures = "" if self.samples is None else f"{self.samples:,} pictures"
        known = self.kind == "embedded" or self.natural is not None
        classes = f"{self.classes:,} classes" if self.classes else "captions in the place of classes" if known else ""
        return ", ".join(filter(None, (pictures, classes)))


@cache
def known_set(name: str) -> KnownSet:
    """What is known of a data set of this name; the same on every machine, whatever data lies on it."""
    natural, reported = natural_sets().get(name), reported_as(name)
    lists = tuple(sorted(key for key, members in known_datasets().list.items() if reported in members))
    variants = tuple(sorted({n for n in {*natural_sets(), reported} if reported_as(n) == reported and n != name}))
    if (EMBEDDED / name / "test").is_dir() and "/" not in name:
        own = Dataset(name, EMBEDDED / name)
        classes = () if own.retrieval else tuple(own.class_names)
        samples = sum(len(read_shard(path).entries) for path in own.shards)
        sentences = () if own.retrieval else tuple(own.templates)
        return KnownSet(name, name, "embedded", None, samples, len(classes) or None, classes, sentences)
    title = (natural.title if natural else known_datasets().dataset.get(name)) or name
    if natural is None and name not in known_datasets().dataset:
        return KnownSet(name, name, "unknown")
    captions = natural is not None and natural.classes is None
    templates = () if captions else tuple((by_, said.get(reported, said["default"])) for by_, said in _templates())
    return KnownSet(
        name, title, "pinned" if natural else "reported", natural, natural.samples if natural else None,
        natural.classes if natural else None, templates=templates, lists=lists, variants=variants,
    )  # fmt: skip


def _templates() -> Iterable[tuple[str, dict[str, str]]]:
    return template_sets().items()


@cache
def claims_by_set() -> dict[str, list[Claim]]:
    """Claims by the id of the set with the samples that their protocol speaks of."""
    return by(claims(), lambda claim: _set_of(claim.protocol, claim.dataset))


@cache  # thousands of claims of a few hundred pairs
def _set_of(protocol: str, dataset: str) -> str:
    reported = reported_protocols().get(protocol)
    return set_of(reported.samples, dataset) if reported else dataset


def names(rows: Iterable[Row], retrieved: Iterable[str] = ()) -> list[str]:
    """Data sets that have a page: those that are known, and those that outcomes name."""
    return sorted({*known_sets(), *(row.dataset for row in rows), *retrieved})


def write_dataset_pages(
    pages: Environment,
    shared: Mapping[str, object],
    rows: Sequence[Row],
    judged: Mapping[str, Verdict],
    held: Sequence[Held],
    out: Path,
    retrieved: Iterable[str] = (),
) -> None:
    """Writes `datasets/<set>.html` into a site: of every known set, and of those that outcomes name.

    Args:
        pages, shared: environment, and what every page knows.
        rows: of all data sets.
        judged: verdict of every claim.
        held: the control numbers.
        out: the site's folder, with an empty folder `datasets`.
        retrieved: data sets of outcomes of retrieval.
    """
    template = pages.get_template("dataset.html.j2")
    theirs: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        theirs[row.dataset].append(row)
    reports, searched = claims_by_set(), frozenset(retrieved)
    for name in names(rows, searched):
        own = theirs.get(name, [])
        cells = [o.cell for row in own for o in row.outcomes]
        text = template.render(
            **shared, root="../", name=name, known=known_set(name), blocks=headline(own), tables=tables(
                reports.get(name, []), judged), held=[one for one in held if one.dataset == name], with_captions=name
            in searched, digests=sorted({(c.dataset_digest, c.prompts_digest) for c in cells}), prompted=sorted(
                {(c.protocol.evaluation.prompts, c.protocol.evaluation.preprocessing) for c in cells}),
            preprocessing=PREPROCESSING, control_list=LIST,
        )  # fmt: skip
        (out / dataset_page(name)).write_text(text, encoding="utf-8")
