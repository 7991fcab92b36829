"""`gauntlet run`: runs a tier, or any part of the matrix, with progress; resumes where it was stopped."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import table
from .engine import Address, AnyDevice, Engine, EngineOption, KeepImages, Store, Where
from .maker import MakerOption

if TYPE_CHECKING:
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.fixtures.records import Outcome
    from vlm_gauntlet.suites.cells import CellPlan
    from vlm_gauntlet.suites.engines.ends import Asked

Names = list[str] | None


def run(
    tier: Annotated[
        str | None, typer.Option(help="fast, mini, nightly, full or a tier file; the options below override its parts")
    ] = None,
    method: Annotated[
        Names,
        typer.Option(
            help="id, id+deviation=choice, id+as_coded, id+released=NAME, module:Class, file.py:Class, "
            "or checkpoint:FILE: weights that you fine-tuned; repeatable"
        ),
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="miniclip-vit, miniclip-cnn or open_clip:<model>/<pretrained>")
    ] = None,
    dataset: Annotated[Names, typer.Option(help="repeatable")] = None,
    protocol: Annotated[Names, typer.Option(help="id (`gauntlet protocols`) or file; repeatable")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="N samples of each data set, the first of a fixed permutation")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="of all random streams; default: 0, of nightly and full a secret one")
    ] = None,
    device: AnyDevice = "cpu",
    batch_size: Annotated[int | None, typer.Option(min=1)] = None,
    outcomes: Annotated[Path, typer.Option(help="folder of outcomes; finished cells are taken from it")] = Path(
        "outcomes"
    ),
    archive: Annotated[
        bool, typer.Option("--archive", help="keep attacked images in <outcomes>/archive/, for gauntlet verify")
    ] = False,
    network: Annotated[
        bool, typer.Option("--allow-network", help="fetch data sets that are missing, from the hub at pinned commits")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(help="i/N: one of N parts of about equal length; then gauntlet merge")
    ] = None,
    engine: EngineOption = Engine.local,
    address: Address = None,
    store: Store = None,
    keep_images: KeepImages = 20.0,
    maker: MakerOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print what finished as one JSON array")] = False,
) -> None:
    """Attacks defences and writes one outcome a cell. Without any option, it says what it could run, and runs nothing.

    Examples:

      gauntlet run --tier fast

      gauntlet run --tier mini --method ttc --method tecoa --limit 50

      gauntlet run --method mine.py:MyDefence --backbone miniclip-vit --dataset digits --protocol clean
    """
    from vlm_gauntlet.fixtures.hub import allow_network
    from vlm_gauntlet.methods.registry import without_unusable
    from vlm_gauntlet.suites.cells import plan
    from vlm_gauntlet.suites.described import reachable
    from vlm_gauntlet.suites.engines.ends import Asked
    from vlm_gauntlet.suites.maker import maker_here, maker_named
    from vlm_gauntlet.suites.seeds import seed_of
    from vlm_gauntlet.suites.tiers import tier as tier_named

    if not (tier or method or backbone or dataset or protocol):
        _tell_tiers(outcomes)
        return
    where = Where(engine, address, outcomes, store)
    where.check(device)
    if network:
        allow_network()
    who = maker_named(maker, "--maker") if maker else maker_here()
    chosen = tier_named(tier or "fast")
    asked, broken = ([*method], {}) if method else without_unusable(chosen.methods)
    usable, unreachable = reachable(asked)
    broken |= unreachable
    if broken and not usable:
        raise next(iter(broken.values()))
    cells = plan(
        usable,
        backbone or chosen.backbone,
        dataset or chosen.datasets,
        protocol or chosen.protocols,
        limit=limit or chosen.limit,
        limits={} if limit else chosen.limits,
        seed=seed_of(chosen, seed, outcomes),
        device=device,
        batch_size=batch_size or chosen.batch_size,
    )
    if shard:
        from vlm_gauntlet.suites.planning.shards import shard as part_of

        cells = part_of(cells, shard, secret=chosen.secret_seed and seed is None)
    finished, missing, failed = _run_all(cells, where, Asked(who, archive, kept_bytes=int(keep_images * 2**30)))
    if failed and not (finished or missing):
        raise next(iter(failed.values()))
    if archive:
        _tell_what_is_kept(finished, outcomes)
    if as_json:
        typer.echo(json.dumps([_line(outcome) for outcome in finished], indent=1))
    else:
        _report(finished, missing, outcomes, [name for name in method or () if ":" in name])
    for cell, error in failed.items():
        typer.echo(f"failed: {cell}: {error}", err=True)
    asker = "was asked for" if method else "the tier asks for"
    for name, error in broken.items():
        typer.echo(f"not run: {name}, which {asker} and which cannot be used: {error.short}", err=as_json)
    if broken or failed or not finished:
        raise typer.Exit(1)


def _line(outcome: "Outcome") -> dict[str, object]:
    return {
        "cell": outcome.cell.id, "key": outcome.key, "seed": outcome.cell.seed, "n": outcome.n,
        "clean": outcome.clean_accuracy, "attacked": outcome.attacked_accuracy, "robust": outcome.robust_accuracy,
        "indicators": [i.name for i in outcome.indicators if i.fired],
    }  # fmt: skip


def _tell_tiers(outcomes: Path) -> None:
    """What there is to run, how much it is, and how long a processor takes for it as far as cards tell."""
    from vlm_gauntlet.suites.estimate import estimate
    from vlm_gauntlet.suites.tiers import TIERS
    from vlm_gauntlet.suites.tiers import tier as tier_named

    lines = [[name, *estimate(tier_named(name))] for name in TIERS]
    table(lines, ["tier", "backbone", "methods", "data sets", "protocols", "cells", "samples each", "at least"])
    typer.echo(f"\nNothing was run. Start one: gauntlet run --tier fast --outcomes {outcomes}")
    typer.echo("Or a part of it: gauntlet run --tier fast --method tecoa --dataset digits --limit 8")


def _run_all(
    cells: "list[CellPlan]", where: Where, how: "Asked"
) -> "tuple[list[Outcome], dict[str, str], dict[str, GauntletError]]":
    """What finished, what is missing here and why, and what failed: a failing cell never ends the others."""
    from vlm_gauntlet.suites.planning.work import key_of

    ends, folder = where.run(cells, how), where.folder
    finished = [end.outcome for end in ends if end.outcome is not None]
    if any(end.word == "not reached" for end in ends):
        typer.echo(
            f"stopped: {len(finished)} of {len(cells)} cells are in {folder}/, with the batches of the one in "
            "flight; the same command goes on from there",
            err=True,
        )
        raise typer.Exit(130)
    ids = {key_of(cell): cell.id for cell in cells}
    missing = {ids[end.key]: end.reason for end in ends if end.word == "not run"}
    return finished, missing, {ids[end.key]: end.error for end in ends if end.error is not None}


def _report(finished: "list[Outcome]", missing: dict[str, str], folder: Path, outside: list[str]) -> None:
    lines = []
    for o in finished:
        fired = ", ".join(i.name for i in o.indicators if i.fired)
        lines.append((o.cell.id, o.n, f"{100 * o.clean_accuracy:.1f}", f"{100 * o.attacked_accuracy:.1f}", fired))
    if lines:
        table(lines, ("cell", "n", "clean %", "attacked %", "indicators"))
    for reason in dict.fromkeys(missing.values()):
        typer.echo(f"not run: {', '.join(cell for cell in missing if missing[cell] == reason)}: {reason}")
    _tell_what_changed(finished, folder)
    if finished:
        known = "".join(f" --method {shlex.quote(name)}" for name in outside)
        then = f"gauntlet board --outcomes {folder} --out site --text{known}"
        typer.echo(f"\n{len(finished)} outcomes in {folder}/. Next: {then}")


def _tell_what_is_kept(finished: "list[Outcome]", folder: Path) -> None:
    """How large the archives are, and which cells have none."""
    from vlm_gauntlet.suites.archive import Archive

    paths = [Archive(folder).path(o.key) for o in finished]
    sizes = [path.stat().st_size for path in paths if path.is_file()]
    typer.echo(f"archived: images of {_cells(len(sizes))}, {sum(sizes):,} bytes")
    if left := len(paths) - len(sizes):
        typer.echo(f"not archived: {_cells(left)} without attacked images, or taken from {folder}/")


def _tell_what_changed(finished: "list[Outcome]", folder: Path) -> None:
    """Which finished cells the folder also has that this code did not make, and which were made with other packages."""
    from vlm_gauntlet.suites.late_folder import REPLACED
    from vlm_gauntlet.suites.stale import made_by_other_code, made_with_other_files
    from vlm_gauntlet.suites.versions import other_versions, versions_told

    if left := made_by_other_code(folder, [o.cell for o in finished]):
        typer.echo(f"left out: {_cells(left)} in {folder}/, made by other code")
    if replaced := made_with_other_files(folder, [o.cell for o in finished]):
        names = ", ".join(sorted({name for changed in replaced.values() for name in changed}))
        typer.echo(f"left out: {_cells(len(replaced))} in {folder}/{REPLACED}/, made with other files: {names}")
    made_with = [o.provenance.versions for o in finished if other_versions(o.provenance.versions)]
    if made_with:
        typer.echo(f"taken from {folder}/: {_cells(len(made_with))}, made with {versions_told(made_with)}")


def _cells(count: int) -> str:
    return f"{count} finished cell{'' if count == 1 else 's'}"
