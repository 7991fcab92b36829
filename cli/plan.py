"""`gauntlet plan`: what a run costs, what it settles, and what fits into a budget. Nothing is computed or written."""

import json
from collections import Counter
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import table
from .device import Device
from .durations import duration, told

if TYPE_CHECKING:
    from vlm_gauntlet.leaderboard.night_plan import NightPlan
    from vlm_gauntlet.suites.planning.budget import Choice
    from vlm_gauntlet.suites.planning.rates import Rate
    from vlm_gauntlet.suites.planning.schedule import Schedule

Names = list[str] | None
Budget = Annotated[str | None, typer.Option(help="such as 8h: choose the cells that settle most in that time")]
SHOWN = 12


def plan(
    tier: Annotated[str, typer.Option(help="fast, mini, nightly, full or a tier file")] = "nightly",
    method: Annotated[Names, typer.Option(help="in place of the tier's methods; repeatable")] = None,
    backbone: Annotated[str | None, typer.Option(help="in place of the tier's")] = None,
    dataset: Annotated[Names, typer.Option(help="repeatable")] = None,
    protocol: Annotated[Names, typer.Option(help="repeatable")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="samples of each data set, for every method")] = None,
    seed: Annotated[int | None, typer.Option(help="of the run, where outcomes of it are here")] = None,
    outcomes: Annotated[Path, typer.Option(help="finished cells here cost nothing; all tell what cells cost")] = Path(
        "outcomes"
    ),
    passes: Annotated[float | None, typer.Option(help="forward passes a second of the device, if you know")] = None,
    backward: Annotated[float, typer.Option(help="with --passes: a backward pass in forward passes")] = 1.0,
    calibrate: Annotated[str | None, typer.Option(help="such as 60s: measure the rate on --device for so long")] = None,
    device: Device = "cpu",
    machines: Annotated[int, typer.Option(min=1, help="GPUs that share the cells")] = 1,
    hour: Annotated[
        float | None, typer.Option(min=0, help="what one GPU costs for an hour; no price is assumed")
    ] = None,
    budget: Budget = None,
    claims: Annotated[bool, typer.Option("--claims/--no-claims", help="also the cells that claims ask for")] = True,
    trained: Annotated[bool, typer.Option("--trained", help="as if every checkpoint were here")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="everything, each cell with its cost")] = False,
) -> None:
    """Counts the cells of a tier, their encoder passes and GPU-hours before anything runs.

    Passes are upper bounds on paper (no sample leaves early; text passes left out) until outcomes in the folder tell
    what a method takes under a protocol. Seconds come from --passes, from --calibrate, or from outcomes of this device.
    --budget takes the questions (a claim, a row that may rank) with the most value for an hour. --machines simulates a
    schedule, the longest cell first, each on the machine that is free first: when all are done, and at --hour for how
    much. A table tells what makes that affordable: limits by cost, samples that leave early, the budget.

    Examples:

      gauntlet plan --tier nightly --passes 4000 --machines 8 --hour 2.50

      gauntlet plan --tier nightly --calibrate 60s --device cuda --budget 8h

      gauntlet plan --tier full --passes 2500 --json | jq '.hours'
    """
    made = planned(
        tier, method=method, backbone=backbone, dataset=dataset, protocol=protocol, limit=limit, seed=seed,
        outcomes=outcomes, passes=passes, backward=backward, calibrate=calibrate, device=device, claims=claims,
        trained=trained,
    )  # fmt: skip
    choice = None if budget is None else made.chosen(duration(budget, "--budget") * machines)
    keys = None if choice is None else choice.cells
    shared = made.spread(machines, keys)
    ways = _ways(tier, made, outcomes, limit, machines)
    if choice is not None:
        ways.append((f"what settles most in {budget}", shared))
    if as_json:
        typer.echo(json.dumps(_record(made, choice, shared, ways, hour), indent=1))
        return
    _tell(tier, made)
    _tell_schedule(made, shared, hour)
    _tell_ways(ways, hour, None if budget is None else duration(budget, "--budget"))
    if choice is not None:
        tell_choice(made, choice, duration(str(budget), "--budget") * machines)


def planned(
    tier: str, *, method: Names, backbone: str | None, dataset: Names, protocol: Names, limit: int | None,
    seed: int | None, outcomes: Path, passes: float | None, backward: float, calibrate: str | None, device: str,
    claims: bool, trained: bool,
) -> "NightPlan":  # fmt: skip
    """The plan that these options ask for: see `plan`."""
    from vlm_gauntlet.leaderboard.night_plan import night_plan
    from vlm_gauntlet.methods.claims import claims as all_claims
    from vlm_gauntlet.methods.registry import without_unusable
    from vlm_gauntlet.suites.cells import plan as cells_of
    from vlm_gauntlet.suites.planning.finished import kept_seed
    from vlm_gauntlet.suites.tiers import tier as tier_named

    chosen = tier_named(tier)
    tower, known = backbone or chosen.backbone, kept_seed(chosen, seed, outcomes)
    cells = cells_of(
        method or without_unusable(chosen.methods)[0], tower, dataset or chosen.datasets,
        protocol or chosen.protocols, limit=limit or chosen.limit, limits={} if limit else chosen.limits,
        seed=known or 0, device=device, batch_size=chosen.batch_size,
    )  # fmt: skip
    asked = [c for c in all_claims() if not method or c.method in method] if claims else []
    rate = _rate(passes, backward, calibrate, outcomes, tower, device, chosen.batch_size)
    return night_plan(cells, asked, rate, outcomes, backbone=tower, seed=known, trained=trained)


def _rate(
    passes: float | None, backward: float, calibrate: str | None, outcomes: Path, backbone: str, device: str,
    batch_size: int,
) -> "Rate":  # fmt: skip
    from vlm_gauntlet.fixtures.device import device_name
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.suites.planning import rates
    from vlm_gauntlet.suites.planning.finished import outcomes_in

    if passes is not None:
        return rates.given(passes, backward)
    if calibrate is not None:
        seconds = duration(calibrate, "--calibrate")
        return rates.calibrated(backbone, device, seconds=seconds, batch_size=batch_size)
    if found := rates.told(outcomes_in(outcomes), device_name(device), backbone):
        return found
    raise GauntletError(
        f"no outcome of {backbone} on this device in {outcomes}/", expected="a rate: passes a second",
        where="--passes, --calibrate", fix="--calibrate 60s measures it here; --passes 2500 assumes one",
    )  # fmt: skip


def _tell(name: str, made: "NightPlan") -> None:
    done, unknown = sum(w.done for w in made.works), sum(w.seconds is None and not w.done for w in made.works)
    counted = sum(w.counted and not w.done for w in made.works)
    left = made.passes
    typer.echo(f"{name}: {len(made.works)} cells, {done} done, {unknown} of unknown cost")
    typer.echo(
        f"left: {left.forward:.3g} forward and {left.backward:.3g} backward passes, {counted} cells counted on paper"
    )
    typer.echo(f"rate: {made.rate.source}")
    lacking = f", of which {len(made.lacking)} cells lack a checkpoint and {made.runnable_hours:,.1f} h can run"
    typer.echo(f"hours on one device: {made.hours:,.1f}{lacking if made.lacking else ''}\n")
    for field in ("method", "protocol"):
        lines = [(n, count, f"{hours:,.1f}", f"{100 * hours / made.hours if made.hours else 0:.1f}")
                 for n, count, hours in made.by(field)[:SHOWN]]  # fmt: skip
        table(lines, (field, "cells", "hours", "%"))
        typer.echo()
    families = [line for line in made.claim_families() if line[2] > line[5]]
    if families:
        table([(*line[:4], f"{line[4]:,.1f}", line[5]) for line in families],
              ("claims of", "protocol", "claims", "cells", "hours", "blocked"))  # fmt: skip
    for reason, count in Counter(map(_short, made.blocked.values())).most_common(SHOWN):
        typer.echo(f"blocked: {count} claims: {reason}")


def _short(reason: str) -> str:
    return reason if len(reason) <= 90 else f"{reason[:90]}..."


def _ways(
    name: str, made: "NightPlan", outcomes: Path, limit: int | None, machines: int
) -> "list[tuple[str, Schedule]]":
    """The schedules of what is left, from the dearest way to run it to the cheapest."""
    from vlm_gauntlet.suites.planning.affordable import steps
    from vlm_gauntlet.suites.planning.finished import outcomes_in
    from vlm_gauntlet.suites.planning.schedule import schedule
    from vlm_gauntlet.suites.planning.work import key_of
    from vlm_gauntlet.suites.tiers import tier as tier_named

    left = {key for key, seconds in made.seconds.items() if seconds}
    cells = {key: cell for cell in made.cells if (key := key_of(cell)) in left}
    found = steps(cells, made.rate, outcomes_in(outcomes), limit=limit or tier_named(name).limit)
    return [(step.words, schedule(step.seconds, machines)) for step in found]


def _tell_ways(ways: "list[tuple[str, Schedule]]", hour: float | None, night: float | None) -> None:
    """The table of ways; with a budget, how many such nights each takes: what one finished costs the next nothing."""
    typer.echo("\nwhat makes it affordable:" if hour is None else f"\nwhat makes it affordable, at {hour:g} an hour:")
    lines = []
    for words, s in ways:
        busy, there = sum(s.seconds), len(s.machines) * s.makespan
        line = [
            words,
            sum(map(len, s.machines)),
            f"{busy / 3600:,.1f}",
            told(s.makespan),
            f"{100 * busy / (there or 1):.0f}",
        ]
        line += [] if night is None else [f"{ceil(busy / (night * len(s.machines))):,}"]
        lines.append([*line, *([] if hour is None else [f"{s.cost(hour):,.0f}"])])
    more = [*([] if night is None else ["nights"]), *([] if hour is None else ["cost"])]
    table(lines, ("way", "cells", "machine-hours", "done after", "busy %", *more))


def _tell_schedule(made: "NightPlan", shared: "Schedule", hour: float | None) -> None:
    longest = max((s for s in made.seconds.values()), default=0.0)
    paid = f", {shared.cost(hour):,.0f} at {hour:g} an hour" if hour is not None else "; no price was given (--hour)"
    typer.echo(
        f"\n{len(shared.machines)} machine{'' if len(shared.machines) == 1 else 's'}: done after "
        f"{told(shared.makespan)}, {sum(shared.seconds) / 3600:,.1f} machine-hours{paid}; "
        f"the longest cell takes {told(longest)}"
    )


def tell_choice(made: "NightPlan", choice: "Choice", budget: float) -> None:
    """What a budget settles, and what it leaves out."""
    kinds = {q.name: q.kind for q in made.questions}
    settled, left = Counter(kinds[n] for n in choice.settled), Counter(kinds[n] for n in choice.left)
    read = f", and try {n} claims under every reading" if (n := settled["sensitivity"]) else ""
    unused = "" if choice.next is None else f"; the next question would take {told(choice.next)}"
    typer.echo(
        f"\nin {told(budget)}: {len(choice.cells)} cells, {told(choice.seconds)}, settle {settled['claim']} claims and "
        f"{settled['row']} rows{read} (greedy, most for an hour first){unused}"
    )
    missed = ", ".join(f"{left[kind]} {kind}s" for kind in ("claim", "row", "cell"))
    typer.echo(f"left out: {missed}; blocked: {len(made.blocked)} claims")
    work = {w.key: w for w in made.works}
    methods = Counter(work[k].method for k in choice.cells)
    typer.echo("cells of: " + ", ".join(f"{name} {count}" for name, count in methods.most_common(SHOWN)))
    rest = Counter(w.method for w in made.works if w.key not in set(choice.cells))
    typer.echo("cells left out of: " + ", ".join(f"{name} {count}" for name, count in rest.most_common(SHOWN)))


def _record(
    made: "NightPlan",
    choice: "Choice | None",
    shared: "Schedule",
    ways: "list[tuple[str, Schedule]]",
    hour: float | None,
) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "rate": asdict(made.rate), "hours": made.hours, "runnable_hours": made.runnable_hours,
        "lacking": sorted(made.lacking), "passes": asdict(made.passes),
        "cells": [asdict(w) for w in made.works], "blocked": made.blocked,
        "questions": [{"name": q.name, "kind": q.kind, "cells": sorted(q.cells)} for q in made.questions],
        "schedule": {"makespan": shared.makespan, "seconds": shared.seconds, "machines": shared.machines,
                     "cost": None if hour is None else shared.cost(hour)},
        "ways": [{"way": words, "hours": sum(s.seconds) / 3600, "makespan": s.makespan,
                  "cost": None if hour is None else s.cost(hour)} for words, s in ways],
        "budget": None if choice is None else asdict(choice),
    }  # fmt: skip
