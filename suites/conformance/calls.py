"""Checks of a call: what goes in, what comes out, and what a call may not depend on or change."""

import random
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vlm_gauntlet.fixtures.errors import ContractError, GauntletError
from vlm_gauntlet.fixtures.prompts import PromptSet

from .bench import Bench
from .report import Status

Answer = tuple[Status, str]


def _contract(bench: Bench, words: str) -> ContractError | None:
    """The error of a plain call if it is about these words; other broken contracts pass on to their own checks."""
    try:
        bench.logits(bench.defence(), bench.images, bench.keys)
    except ContractError as error:
        if words in error.came:
            return error
        raise
    return None


def check_logits_shape_and_finite(bench: Bench) -> Answer:
    """One finite logit for each image and class."""
    if error := _contract(bench, "output"):
        return "fail", f"{error.came}, expected {error.expected}; {error.fix}"
    return "pass", f"[{len(bench.keys)}, {len(bench.material.prompts)}], all finite"


def check_mode_kept(bench: Bench) -> Answer:
    """train/eval of every module is as before."""
    if error := _contract(bench, "mode changed"):
        return "fail", f"{error.came}; {error.fix}"
    return "pass", "train/eval mode of every module is kept"


def check_no_state_leak(bench: Bench) -> Answer:
    """Seen from inside (fingerprint) and from outside (the answer for x does not change after other batches)."""
    if bench.defence().card.keeps_state:
        return "skip", "the card declares keeps_state"
    if error := _contract(bench, "state leaks"):
        return "fail", f"{error.came}; {error.fix}"
    defence, keys = bench.defence(), bench.keys
    before = bench.logits(defence, bench.images, keys)
    for other in (1 - bench.images, bench.images.flip(-1) ** 2):
        bench.logits(defence, other, keys)
    if gap := bench.differ(before, bench.logits(defence, bench.images, keys)):
        return "fail", f"after other batches the same images get logits that differ by {gap:.3g}: reset after each call"
    return "pass", "no parameter, buffer or attribute changed, and other batches change no answer"


def check_bad_images_are_refused(bench: Bench) -> Answer:
    """Range, NaN, dtype and shape are refused with a GauntletError."""
    spoil: dict[str, Callable[[Tensor], Tensor]] = {
        "values above 1": lambda x: x + 1,
        "values below 0": lambda x: x - 1,
        "NaN": lambda x: torch.where(x > x.mean(), torch.nan, x),
        "float64": lambda x: x.double(),
        "one image without a batch": lambda x: x[0],
        "one channel": lambda x: x[:, :1],
        "an empty batch": lambda x: x[:0],
    }
    defence = bench.defence()
    accepted = []
    for name, change in spoil.items():
        images = change(bench.images)
        try:
            bench.logits(defence, images, bench.keys[: len(images)])
        except ContractError:
            raise
        except GauntletError:
            continue
        except Exception as error:  # refused, but with whatever broke first
            accepted.append(f"{name} ({type(error).__name__})")
        else:
            accepted.append(name)
    if accepted:
        return "fail", f"no clear error for {', '.join(accepted)}: leave the checks of Defence.__call__ in place"
    return "pass", f"refused with one clear error: {', '.join(spoil)}"


def check_global_rng_kept(bench: Bench) -> Answer:
    """The caller's random generators are where he left them."""
    defence = bench.defence()

    def states() -> dict[str, str]:
        return {
            "torch": repr(torch.get_rng_state().tolist()),
            "numpy": repr(np.random.get_state(legacy=False)),
            "random": repr(random.getstate()),
        }

    before = states()
    bench.logits(defence, bench.images, bench.keys)
    after = states()
    if eaten := [name for name in before if before[name] != after[name]]:
        return "fail", f"a call moved the global generator of {', '.join(eaten)}: draw from self.draws"
    return "pass", "global generators of torch, numpy and random are kept"


def check_same_draws_repeat(bench: Bench) -> Answer:
    """The same random streams give the same logits, bit for bit."""
    defence = bench.defence()
    first, second = (bench.logits(defence, bench.images, bench.keys) for _ in range(2))
    if gap := float((first - second).abs().max()):
        return "fail", f"the same draws give logits that differ by {gap:.3g}: draw from self.draws and nothing else"
    return "pass", "the same draws give the same logits"


def check_randomised_as_declared(bench: Bench) -> Answer:
    """Fresh draws change the answer exactly when the card says `randomised`."""
    defence = bench.defence()
    first, second = (bench.logits(defence, bench.images, bench.keys, call=call) for call in (1, 2))
    behaves, declared = not torch.equal(first, second), defence.card.randomised
    if behaves and not declared:
        return "fail", "fresh draws change the logits: declare `randomised = true`, so that attacks average over draws"
    if declared and not behaves:
        return "fail", "declared randomised, but fresh draws change nothing: remove the declaration"
    return "pass", f"declared {'randomised' if declared else 'deterministic'}, and so it behaves"


def check_batch_independence(bench: Bench) -> Answer:
    """A batch gives what its images give one by one."""
    defence, keys = bench.defence(), bench.keys
    if defence.batch_coupled:
        return "skip", "declared batch_coupled: outcomes will carry the batch size"
    n = min(4, len(keys))
    alone = [bench.logits(defence, bench.images[i : i + 1], keys[i : i + 1]) for i in range(n)]
    if gap := bench.differ(bench.logits(defence, bench.images, keys)[:n], torch.cat(alone)):
        return "fail", f"in a batch the logits differ by {gap:.3g}: treat samples apart, or declare batch_coupled"
    return "pass", f"{n} images one by one get the logits that they get in a batch of {len(keys)}"


def check_order_independence(bench: Bench) -> Answer:
    """Turning the batch round turns the logits round."""
    defence, keys = bench.defence(), bench.keys
    turned = bench.logits(defence, bench.images.flip(0), keys[::-1]).flip(0)
    if gap := bench.differ(bench.logits(defence, bench.images, keys), turned):
        return "fail", f"in reversed order the logits differ by {gap:.3g}: an image's place must not matter"
    return "pass", "the order of a batch does not matter"


def check_class_permutation_equivariance(bench: Bench) -> Answer:
    """Permuted classes give permuted logits."""
    defence, prompts = bench.defence(), bench.material.prompts
    order = torch.arange(len(prompts)).roll(1)
    names, sentences = ([group[i] for i in order] for group in (prompts.class_names, prompts.prompts))
    permuted = bench.logits(
        defence, bench.images, bench.keys, prompts=PromptSet(tuple(map(str, names)), tuple(map(tuple, sentences)))
    )
    if gap := bench.differ(bench.logits(defence, bench.images, bench.keys)[:, order], permuted):
        return "fail", f"with the classes in another order the logits differ by {gap:.3g}"
    return "pass", "permuted classes give permuted logits"
