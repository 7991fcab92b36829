"""`gauntlet night`: plan, run, board and report in one command, within a budget; nothing but an interrupt ends it."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .durations import duration
from .engine import Address, AnyDevice, Engine, EngineOption, KeepImages, Store, Where
from .maker import MakerOption
from .plan import Names, planned, tell_choice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vlm_gauntlet.fixtures.records import Maker, Outcome
    from vlm_gauntlet.leaderboard.evidence import Evidence
    from vlm_gauntlet.leaderboard.night_plan import NightPlan
    from vlm_gauntlet.leaderboard.verdicts import Verdict
    from vlm_gauntlet.suites.cells import CellPlan
    from vlm_gauntlet.suites.engines.ends import CellEnd


def night(
    budget: Annotated[str, typer.Option(help="such as 8h: no cell is begun after it")] = "8h",
    tier: Annotated[str, typer.Option(help="fast, mini, nightly, full or a tier file")] = "nightly",
    method: Annotated[Names, typer.Option(help="in place of the tier's methods; repeatable")] = None,
    backbone: Annotated[str | None, typer.Option(help="in place of the tier's")] = None,
    dataset: Annotated[Names, typer.Option(help="repeatable")] = None,
    protocol: Annotated[Names, typer.Option(help="repeatable")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="samples of each data set, for every method")] = None,
    seed: Annotated[int | None, typer.Option(help="default: the tier's; of nightly and full a secret one")] = None,
    outcomes: Annotated[Path, typer.Option(help="folder of outcomes; finished cells are taken from it")] = Path(
        "outcomes"
    ),
    out: Annotated[Path, typer.Option(help="folder for the pages")] = Path("site"),
    report: Annotated[Path, typer.Option(help="folder for night.md and night.json")] = Path(),
    passes: Annotated[float | None, typer.Option(help="forward passes a second of the device, if you know")] = None,
    calibrate: Annotated[str, typer.Option(help="measure the rate for so long, where --passes is not given")] = "30s",
    device: AnyDevice = "cpu",
    archive: Annotated[bool, typer.Option("--archive", help="keep attacked images in <outcomes>/archive/")] = False,
    claims: Annotated[bool, typer.Option("--claims/--no-claims", help="also the cells that claims ask for")] = True,
    trained: Annotated[bool, typer.Option("--trained", help="also cells whose checkpoint is not in the clone")] = False,
    engine: EngineOption = Engine.local,
    address: Address = None,
    machines: Annotated[
        int, typer.Option(min=1, help="with --engine ray: GPUs or processors that share the cells")
    ] = 1,
    store: Store = None,
    maker: MakerOption = None,
    keep_images: KeepImages = 20.0,
    despite_controls: Annotated[
        bool, typer.Option("--despite-controls", help="go on where control numbers do not hold; outcomes say so")
    ] = False,
) -> None:
    """Spends a budget on the cells that settle most, then renders the board and writes a report.

    The same command goes on where a killed night stopped. A cell that fails, or whose weights or data are not here, is
    told in the report and costs no other. Exits with 1 if a cell failed or a control does not hold.

    On real CLIP it begins with what public sources measured without attack (`gauntlet controls`), and ends there if a
    number is another.

    Examples:

      gauntlet night --budget 8h --device cuda

      gauntlet night --budget 10m --tier fast --method ttc --no-claims

      gauntlet night --budget 8h --device cuda --engine ray --address auto --machines 16 --passes 4000 --store s3://ours/night
    """
    from vlm_gauntlet.fixtures.device import device_name
    from vlm_gauntlet.leaderboard.control_gate import of_night, wrong
    from vlm_gauntlet.leaderboard.night_report import Night, write_report
    from vlm_gauntlet.suites.engines.ends import Asked
    from vlm_gauntlet.suites.maker import maker_here, maker_named
    from vlm_gauntlet.suites.planning.work import key_of
    from vlm_gauntlet.suites.seeds import seed_of
    from vlm_gauntlet.suites.tiers import tier as tier_named

    who, seconds = maker_named(maker, "--maker") if maker else maker_here(), duration(budget, "--budget")
    where = Where(engine, address, outcomes, store)
    where.check(device)
    where.fetch()
    own = seed_of(tier_named(tier), seed, outcomes)
    made = planned(
        tier, method=method, backbone=backbone, dataset=dataset, protocol=protocol, limit=limit, seed=own,
        outcomes=outcomes, passes=passes, backward=1.0, calibrate=calibrate, device=device, claims=claims,
        trained=trained,
    )  # fmt: skip
    made, absent = made.here()
    if absent:
        typer.echo(f"left out: data sets that are not here: {', '.join(absent)} (gauntlet data get NAME)")
    began = time.monotonic()
    tower = backbone or tier_named(tier).backbone
    note = _controlled(where, tower, own, made.cells[0], seconds, who, go_on=despite_controls)
    seconds = max(0.0, seconds - (time.monotonic() - began))
    choice = made.chosen(seconds * machines)
    tell_choice(made, choice, seconds * machines)
    by_key = {key_of(cell): cell for cell in made.cells}
    chosen = [by_key[key] for key in choice.cells]
    asked = Asked(who, archive, notes=note, kept_bytes=int(keep_images * 2**30))
    ends = where.run(chosen, asked, seconds=seconds, told=_tell)
    found, board = _board(outcomes, out)
    finished = Night(
        made, choice, ends, _settled(made, found.sound), _devices(ends) or device_name(device), seconds * machines,
        own, board, tower, of_night(found, tower),
    )  # fmt: skip
    text, record = write_report(finished, report)
    typer.echo(f"\n{', '.join(f'{n} {word}' for word, n in finished.counts.items())}")
    typer.echo(f"board: {board}\nreport: {text}, {record}")
    if any(end.word == "failed" for end in ends) or (wrong(finished.controls) and not despite_controls):
        raise typer.Exit(1)


def _controlled(
    where: Where, backbone: str, seed: int, like: "CellPlan", seconds: float, maker: "Maker", *, go_on: bool
) -> tuple[str, ...]:
    """Runs the controls that cost little; what outcomes of this night say of those that do not hold.

    Raises:
        GauntletError: one does not hold, and the night may not go on.
    """
    from vlm_gauntlet.leaderboard.control_gate import check, first_cells, of_night, told, wrong
    from vlm_gauntlet.leaderboard.evidence import Evidence, gather
    from vlm_gauntlet.suites.engines.ends import Asked
    from vlm_gauntlet.suites.known_here import KnownHere

    cells = first_cells(backbone, seed=seed, device=like.device, batch_size=like.batch_size)
    if cells:
        where.run(cells, Asked(maker), seconds=seconds, told=_tell)
    found = of_night(gather(where.folder, KnownHere()) if where.folder.is_dir() else Evidence(), backbone)
    typer.echo(told(found, backbone))
    if not go_on:
        check(found, str(where.folder))
    return tuple(f"Made although a control number did not hold: {line}" for line in wrong(found))


def _devices(ends: "list[CellEnd]") -> str:
    """What computed, as outcomes tell."""
    return ", ".join(sorted({end.outcome.provenance.device for end in ends if end.outcome is not None}))


def _tell(end: "CellEnd") -> None:
    how = f"{end.seconds:.1f} s" if end.outcome is not None else " ".join(end.reason.split())
    typer.echo(f"{end.word:11} {end.key}: {how}")


def _board(outcomes: Path, out: Path) -> "tuple[Evidence, str]":
    """What the folder holds, and where the pages are or why there are none."""
    from vlm_gauntlet.leaderboard.evidence import Evidence, gather
    from vlm_gauntlet.leaderboard.site import build_site
    from vlm_gauntlet.suites.known_here import KnownHere

    try:
        found = gather(outcomes, KnownHere())
        if not (found.sound or found.unranked or found.retrieval or found.aside):
            return found, f"no outcome in {outcomes}/"
        return found, str(build_site(found, out))
    except Exception as error:  # the report tells it: a night's outcomes are there, whatever the pages do
        return Evidence(), f"none: {type(error).__name__}: {error}"


def _settled(made: "NightPlan", outcomes: "Sequence[Outcome]") -> "dict[str, Verdict]":
    """Verdicts on the claims that the plan has cells for."""
    from vlm_gauntlet.leaderboard.verdicts import verdicts
    from vlm_gauntlet.methods.claims import claims

    asked = {q.name for q in made.questions if q.kind == "claim"}
    return verdicts([c for c in claims() if c.id in asked], outcomes)
