"""`gauntlet retrieval`: image-text retrieval of a tower, before and after images and captions were attacked."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import out, quiet, table
from .device import Device
from .maker import MakerOption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from fractions import Fraction

    from rich.progress import Progress, TaskID

    from vlm_gauntlet.suites.retrieval_records import RetrievalOutcome


def retrieval(
    attack: Annotated[list[str], typer.Option(help="sep, co-attack, sga or dra; repeatable")],
    method: Annotated[str, typer.Option(help="undefended, or a method that tunes the image tower")] = "undefended",
    backbone: Annotated[
        str, typer.Option(help="miniclip-vit, miniclip-cnn or open_clip:<model>/<pretrained>")
    ] = "miniclip-vit",
    dataset: Annotated[str, typer.Option(help="a set with captions")] = "emoji_captions",
    eps: Annotated[str, typer.Option(help="L-inf radius in [0,1]")] = "2/255",
    words: Annotated[int, typer.Option(min=1, help="words that may change in a caption")] = 1,
    source: Annotated[
        Literal["characters", "wordnet", "masked-lm"], typer.Option(help="where candidates for a word come from")
    ] = "characters",
    limit: Annotated[
        int, typer.Option(min=1, help="N images, the first of a fixed permutation, with all captions")
    ] = 32,
    seed: Annotated[int, typer.Option(help="seed of the random starts")] = 0,
    device: Device = "cpu",
    batch_size: Annotated[int, typer.Option(min=1)] = 16,
    outcomes: Annotated[Path, typer.Option(help="folder of outcomes; finished ones are taken from it")] = Path(
        "outcomes"
    ),
    maker: MakerOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print what was measured as one JSON array")] = False,
) -> None:
    """Attacks images and captions together and prints R@1, R@5, R@10 both ways, with both attack success rates.

    `drop` is clean minus attacked R@k, in points (Co-Attack's success rate). `lost` is, of the queries right within k
    before the attack, the share wrong after it (SGA's). Numbers of one kind do not compare with those of the other.

    Example: gauntlet retrieval --attack sep --attack co-attack --attack sga --attack dra
    """
    from rich.progress import Progress

    from vlm_gauntlet.suites.maker import maker_here, maker_named
    from vlm_gauntlet.suites.retrieval import Setting, run_retrieval
    from vlm_gauntlet.suites.retrieval_records import word_swap

    rules = word_swap(source, words)
    who = maker_named(maker, "--maker") if maker else maker_here()
    finished = []
    with Progress(transient=True, disable=quiet()) as bar:
        for name in dict.fromkeys(attack):
            task = bar.add_task(f"images under {name}", total=limit)
            advance = partial(_advance, bar, task)
            setting = Setting(method, backbone, dataset, name, _fraction(eps), rules, limit, seed, device, batch_size)
            finished.append(run_retrieval(setting, outcomes, progress=advance, maker=who))
    _tell_what_was_replaced(finished, outcomes, err=as_json)
    if as_json:
        typer.echo(json.dumps([line for o in finished for line in _measured(o)], indent=1))
    else:
        _report(finished, outcomes)


def _advance(bar: "Progress", task: "TaskID", done: int, in_all: int) -> None:
    bar.update(task, completed=done, total=in_all)


def _fraction(text: str) -> "Fraction":
    from fractions import Fraction

    from vlm_gauntlet.fixtures.errors import GauntletError

    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise GauntletError(
            f"eps {text!r}", expected="a fraction of the pixel range", where="--eps", fix="write it as 2/255"
        ) from None


def _measured(outcome: "RetrievalOutcome") -> "Iterator[dict[str, object]]":
    """One line for each way and k; shares as fractions."""
    from vlm_gauntlet.suites.recall import KS

    for way, ranks in (("image to text", outcome.image_to_text), ("text to image", outcome.text_to_image)):
        for k in KS:
            yield {
                "key": outcome.key, "attack": outcome.cell.attack, "queries": way, "n": ranks.n, "k": k,
                "clean": ranks.clean_recall(k), "attacked": ranks.attacked_recall(k), "drop": ranks.drop(k),
                "lost": ranks.lost(k),
            }  # fmt: skip


def _report(finished: "list[RetrievalOutcome]", folder: Path) -> None:
    from vlm_gauntlet.suites.recall import DEFINITIONS
    from vlm_gauntlet.suites.retrieval_records import FOLDER

    lines = []
    for line in (line for o in finished for line in _measured(o)):
        values = [line[name] for name in ("clean", "attacked", "drop", "lost")]
        shares = [f"{100 * value:.1f}" if isinstance(value, float) else "-" for value in values]
        lines.append((line["attack"], line["queries"], line["n"], f"R@{line['k']}", *shares))
    table(lines, ("attack", "queries", "n", "", "clean %", "attacked %", "drop", "lost %"))
    for o in finished:
        out.print(f"{o.cell.attack}: {o.captions_changed} of {o.text_to_image.n} captions changed")
    out.print("\n".join(["", *(f"{name}: {meaning}" for name, meaning in DEFINITIONS.items())]))
    out.print(f"\n{len(finished)} outcomes in {folder / FOLDER}/")


def _tell_what_was_replaced(finished: "list[RetrievalOutcome]", folder: Path, *, err: bool) -> None:
    """Which of these cells the folder also has as they were made with files that are others now."""
    from vlm_gauntlet.suites.late_folder import REPLACED
    from vlm_gauntlet.suites.retrieval_records import FOLDER
    from vlm_gauntlet.suites.stale import made_with_other_files

    if replaced := made_with_other_files(folder / FOLDER, [o.cell for o in finished]):
        names = ", ".join(sorted({name for changed in replaced.values() for name in changed}))
        cells = f"{len(replaced)} finished cell{'' if len(replaced) == 1 else 's'}"
        typer.echo(f"left out: {cells} in {folder / FOLDER / REPLACED}/, made with other files: {names}", err=err)
