"""`gauntlet claims`: what sources report, what is odd in it, and what holds."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from vlm_gauntlet.leaderboard.left_out import CLAIMS, METHODS, MINI_CLAIMS, TRAININGS, LeftOut, left_out

from .console import table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from vlm_gauntlet.fixtures.records import Outcome
    from vlm_gauntlet.leaderboard.mini_verdicts import Repeat
    from vlm_gauntlet.leaderboard.verdicts import Verdict
    from vlm_gauntlet.methods.claims import Claim

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    invoke_without_command=True,
    help="Reported numbers: list, audit, verdicts.",
)
Json = Annotated[bool, typer.Option("--json", help="one JSON array")]
Outcomes = Annotated[Path, typer.Option(help="folder of outcomes")]
J = TypeVar("J", bound="Verdict | Repeat")
Pick = Annotated[str | None, typer.Option(help="only this one")]


def _chosen(source: str | None, method: str | None) -> "list[Claim]":
    from vlm_gauntlet.fixtures.errors import unknown_name
    from vlm_gauntlet.fixtures.sources import source as source_named
    from vlm_gauntlet.methods.claims import claims, parts

    if source:
        source_named(source)
    if method and method not in (known := {*parts().usable, *parts().unusable}):
        raise unknown_name("method with claims", method, known, "--method")
    if method:
        parts().get(method, "--method")
    return [c for c in claims() if source in (None, c.source) and method in (None, c.method)]


@app.callback()
def claims(ctx: typer.Context, source: Pick = None, method: Pick = None, as_json: Json = False) -> None:
    """Lists the numbers that sources report; without --json, counts by source and table.

    Examples:

      gauntlet claims --json | jq length

      gauntlet claims --source mmcoa --method tecoa --json

      gauntlet claims audit

      gauntlet claims verdicts --outcomes outcomes --method undefended
    """
    if ctx.invoked_subcommand:
        return
    found = _chosen(source, method)
    if as_json:
        typer.echo(json.dumps([{"id": c.id, **c.model_dump()} for c in found], indent=1, ensure_ascii=False))
        return
    counts = Counter((c.source, c.table, c.tag) for c in found)
    table([[*key, n] for key, n in sorted(counts.items())], ["source", "table", "tag", "claims"])
    typer.echo(f"{len(found)} claims of {len({c.method for c in found})} methods")


@app.command()
def audit(as_json: Json = False) -> None:
    """Tests the tables themselves: means, differences, copies, contradictions, impossible orders. No model runs.

    Example: gauntlet claims audit --json
    """
    from vlm_gauntlet.suites.audit import audit as run_audit
    from vlm_gauntlet.suites.audit.known import reason_for

    found = run_audit()
    if as_json:
        shown = [{**f.model_dump(), "known": reason_for(f)} for f in found]
        typer.echo(json.dumps(shown, indent=1, ensure_ascii=False))
    else:
        for f in found:
            typer.echo(f"{f.severity:8}{f.rule}\n        {f.sentence}\n        {f.arithmetic}")
        counts = Counter(f.rule for f in found)
        typer.echo("\n" + ", ".join(f"{n} {rule}" for rule, n in sorted(counts.items())) + f": {len(found)} findings")
    _exit_if_incomplete(left_out(*CLAIMS, own=True))


@app.command()
def verdicts(
    outcomes: Outcomes = Path("outcomes"),
    source: Pick = None,
    method: Pick = None,
    mini: bool = False,
    as_json: Json = False,
) -> None:
    """Judges claims by the outcomes in a folder; with --mini, whether our own frozen outcomes came out unchanged.

    Example: gauntlet claims verdicts --outcomes outcomes --mini
    """
    from vlm_gauntlet.leaderboard.mini_verdicts import mini_verdicts
    from vlm_gauntlet.leaderboard.verdicts import verdicts as judge
    from vlm_gauntlet.suites.mini_claims import mini_claims, parts

    run = _sound(outcomes)
    if mini:
        if method in parts().unusable:
            parts().get(method, "--method")
        frozen = [r for r in mini_claims() if method in (None, r.method.partition("+")[0])]
        about = {r.method.partition("+")[0] for r in frozen}
        _show_repeats(mini_verdicts(frozen, run), as_json)
        kinds: tuple[str, ...] = (MINI_CLAIMS,)
    else:
        chosen = _chosen(source, method)
        about = {c.method for c in chosen}
        _show_verdicts(judge(chosen, run), as_json)
        kinds = (*CLAIMS, TRAININGS)
    unable = [lost for lost in left_out(METHODS, own=True) if lost.name in about]
    _exit_if_incomplete([*left_out(*kinds, own=True), *unable])


@app.command()
def blocked(source: Pick = None, method: Pick = None, as_json: Json = False) -> None:
    """What keeps claims from being checked, whatever is run: fields that sources leave open, samples not counted, ...

    Several things may block one claim; `alone` counts those that nothing else blocks, `readable` those whose open
    fields have listed readings: outcomes under each of these tell whether the open fields matter.

    Examples:

      gauntlet claims blocked

      gauntlet claims blocked --source ttc --json
    """
    from vlm_gauntlet.leaderboard.blocked import blocked as groups_of
    from vlm_gauntlet.leaderboard.blocked import blockers

    chosen = _chosen(source, method)
    groups = groups_of(chosen)
    if as_json:
        typer.echo(json.dumps([asdict(group) for group in groups], indent=1, ensure_ascii=False))
    else:

        def most(found: "tuple[tuple[str, int], ...]") -> str:
            return ", ".join(f"{name} {n}" for name, n in found[:3]) + (", ..." if len(found) > 3 else "")

        rows = [[g.blocker, len(g.claims), len(g.alone), len(g.readable), most(g.sources), g.lift] for g in groups]
        if rows:
            table(rows, ["blocked by", "claims", "alone", "readable", "sources", "what lifts it"])
        free = sum(not blockers(claim) for claim in chosen)
        typer.echo(f"{len(chosen) - free} of {len(chosen)} claims are blocked; {free} wait for an outcome alone")
    _exit_if_incomplete(left_out(*CLAIMS, own=True))


def _sound(folder: Path) -> "Sequence[Outcome]":
    """The outcomes that data and code here may have made; the others are named with the reason, and not taken."""
    from vlm_gauntlet.leaderboard.evidence import gather
    from vlm_gauntlet.suites.known_here import KnownHere

    found = gather(folder, KnownHere())
    for reason, names in (*found.reasons, *found.unranked_reasons):
        typer.echo(f"not taken: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {reason}", err=True)
    return found.sound


def _exit_if_incomplete(lost: list[LeftOut]) -> None:
    """A judgement on what could be read is no judgement on the whole: it must not look green."""
    if lost:
        typer.echo(f"incomplete: {len(lost)} parts that this stands on cannot be used", err=True)
        raise typer.Exit(1)


def _show_verdicts(found: "dict[str, Verdict]", as_json: bool) -> None:
    def more(v: "Verdict") -> dict[str, object]:
        near = [{"outcome": m.outcome.cell.id, "differs": [str(d) for d in m.differences]} for m in v.near]
        return {"q": v.q, "command": v.command, "near": near}

    _show([(v, v.comparison is not None) for v in found.values()], more, ("claim", "verdict", "claims"), as_json)


def _show_repeats(found: "dict[str, Repeat]", as_json: bool) -> None:
    def more(r: "Repeat") -> dict[str, object]:
        return {"n": r.n, "flipped": r.flipped, "q": r.q, "command": r.command}

    _show([(r, r.n > 0) for r in found.values()], more, ("frozen outcome", "now", "frozen outcomes"), as_json)
    if not as_json and (compared := [r for r in found.values() if r.n]):
        typer.echo(f"{sum(r.word == 'unchanged' for r in compared)} of {len(compared)} unchanged")


def _show(
    found: "list[tuple[J, bool]]", more: "Callable[[J], dict[str, object]]", names: tuple[str, str, str], as_json: bool
) -> None:
    """What was compared one by one, the rest counted by reason; as JSON all of it, with `more` of each."""
    one, word, many = names
    if as_json:
        shown = [{"claim": j.claim, "verdict": j.word, "reason": j.reason, **more(j)} for j, _ in found]
        typer.echo(json.dumps(shown, indent=1, ensure_ascii=False))
        return
    if compared := [[j.claim, j.word, j.reason] for j, is_compared in found if is_compared]:
        table(compared, [one, word, "reason"])
    if reasons := Counter((j.word, j.reason) for j, is_compared in found if not is_compared):
        table([[*key, n] for key, n in reasons.most_common()], [word, "reason", many])


@app.command()
def direction(
    outcomes: Annotated[Path | None, typer.Option(help="folder of outcomes; default: our frozen ones")] = None,
    as_json: Json = False,
) -> None:
    """How far the order of methods under transferred attacks (T0) here agrees with that in papers, on real CLIP.

    Spearman's rank correlation over the methods in common, with the share of all orders that agree as well (p).

    Examples:

      gauntlet claims direction

      gauntlet claims direction --outcomes outcomes --json
    """
    from vlm_gauntlet.leaderboard.direction import directions, t0_of_frozen, t0_of_rows
    from vlm_gauntlet.leaderboard.rows import rows
    from vlm_gauntlet.methods.claims import claims as all_claims
    from vlm_gauntlet.suites.mini_claims import mini_claims

    ours = t0_of_rows(rows(_sound(outcomes))) if outcomes else t0_of_frozen(mini_claims())
    found = directions(ours, all_claims())
    if as_json:
        typer.echo(json.dumps([{**asdict(d), "eps": str(d.eps), "real_eps": str(d.real_eps)} for d in found], indent=1))
    elif found:
        table(
            [[f"{d.backbone}, {d.dataset}, {d.eps}", f"{d.source}: {d.real_backbone}, {d.real_eps}, {d.attack}",
              len(d.methods), d.n, "–" if d.rho is None else f"{d.rho:.2f}", "–" if d.p is None else f"{d.p:.2f}",
              " > ".join(name for name, _, _ in d.methods)] for d in found],
            ["ours", "theirs", "methods", "least n", "rank correlation", "p", "their order"],
        )  # fmt: skip
    else:
        typer.echo("no table of ours and of a source have four methods in common")
    _exit_if_incomplete(left_out(*CLAIMS, *(() if outcomes else (MINI_CLAIMS,)), own=True))


@app.command()
def freeze(outcomes: Outcomes = Path("outcomes")) -> None:
    """Makes outcomes the mini claims of their methods: the numbers that later runs must give again.

    Example: gauntlet run --tier fast && gauntlet claims freeze
    """
    from vlm_gauntlet.fixtures.errors import GauntletError
    from vlm_gauntlet.suites.mini_claims import freeze as write

    if not (run := _sound(outcomes)):
        raise GauntletError(
            f"no outcomes in {outcomes}/ that can be taken", expected="one JSON file a finished cell",
            where="--outcomes", fix=f"gauntlet run --tier fast --outcomes {outcomes}",
        )  # fmt: skip
    for path in write(run):
        typer.echo(str(path))
