"""Runs the checks. A failing check raises nothing: it is recorded and the others go on."""

import time
from collections.abc import Callable

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import ContractError, UnavailableError
from vlm_gauntlet.methods.registry import Method

from . import attacked, calls, costs, source
from .bench import AVERAGED, FEWER, MANY_PASSES, PICTURES, Bench, Material, default_material
from .report import Finding, Report, Status

Check = Callable[[Bench], tuple[Status, str]]

# The first four own the contracts that every call keeps; a check that such a break stops is skipped, not failed twice.
OWNERS: tuple[Check, ...] = (
    calls.check_logits_shape_and_finite,
    calls.check_mode_kept,
    calls.check_no_state_leak,
    calls.check_bad_images_are_refused,
)
CHECKS: tuple[Check, ...] = (
    *OWNERS,
    calls.check_global_rng_kept,
    calls.check_same_draws_repeat,
    calls.check_randomised_as_declared,
    calls.check_batch_independence,
    calls.check_order_independence,
    calls.check_class_permutation_equivariance,
    costs.check_cost_as_declared,
    costs.check_attack_cost_as_declared,
    attacked.check_parameters_survive_attack,
    attacked.check_gradient_reaches_image,
    attacked.check_zero_budget_is_identity,
    attacked.check_surrogate_has_forward_values,
    attacked.check_masked_gradient,
    attacked.check_adaptive_attack_is_strongest,
    attacked.check_clean_accuracy,
    source.check_source_looks_at_images_alone,
)


def check_defence(
    method: Method,
    backbone: Backbone,
    *,
    material: Material | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Runs every check on one defence.

    Args:
        method: from `methods.registry.method(name)`.
        backbone: what to defend.
        material: pictures to use; default: `default_material`, fewer where the card declares many passes.
        progress: called with (check, its number, checks in all) before each check.

    Raises:
        UnavailableError: the defence needs a checkpoint that is not on this machine.
    """
    start = time.perf_counter()
    bench = Bench(method, backbone, material or default_material(backbone, FEWER if _slow(method) else PICTURES))
    findings: list[Finding] = []
    for number, check in enumerate(CHECKS, 1):
        if progress:
            progress(check.__name__, number, len(CHECKS))
        findings.append(_run(check, bench, owner_failed=_owner_failed(findings)))
    return Report(method.name, backbone.name, bench.material.source, tuple(findings), time.perf_counter() - start)


def _slow(method: Method) -> bool:
    """Whether one adaptive gradient takes many passes, over all draws that it averages."""
    cost = method.card.cost
    passes = 0 if cost is None else cost.forward + cost.backward
    return passes * (AVERAGED if method.card.randomised else 1) > MANY_PASSES


def _owner_failed(findings: list[Finding]) -> str | None:
    owners = {check.__name__ for check in OWNERS}
    return next((f.check for f in findings if f.check in owners and f.status == "fail"), None)


def _run(check: Check, bench: Bench, *, owner_failed: str | None) -> Finding:
    name = check.__name__
    try:
        return Finding(name, *check(bench))
    except UnavailableError:
        raise
    except ContractError as error:
        if owner_failed or check in OWNERS:
            return Finding(name, "skip", f"not reached, {error.came} (see {owner_failed or 'the other checks'})")
        return Finding(name, "fail", f"{error.came}; {error.fix}")
    except Exception as error:  # the author's code may raise anything
        return Finding(name, "fail", f"{type(error).__name__}: {error}")
