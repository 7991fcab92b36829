"""Indicators: computed signs that an attack failed. A robust accuracy is trusted only while none has fired.

After Pintor et al. 2022, "Indicators of Attack Failure" (I1 to I6), and the flags of AutoAttack (Croce and Hein
2020). Each indicator is a fraction or a difference that fires beyond its threshold; thresholds name their source.
"""

from collections.abc import Mapping

import torch
from scipy.stats import fisher_exact
from torch import Tensor

from vlm_gauntlet.fixtures.records import Indicator

from .gradient_check import NOTHING

ROUNDING = 0.05  # of the logits' range: our own; steps along signs amplify float rounding to a few thousandths


def _above(name: str, value: Tensor | float, threshold: float, meaning: str) -> Indicator:
    number = float(value)
    return Indicator(name=name, value=number, threshold=threshold, fired=number > threshold, meaning=meaning)


def zero_gradient(gradient_norm: Tensor) -> Indicator:
    """Fraction of samples [B] whose input gradient is exactly zero. Threshold 0: I1, one such sample is enough."""
    meaning = "no gradient reaches the image: attack the defence's surrogate (BPDA)"
    return _above("zero-gradient", (gradient_norm == 0).float().mean(), 0.0, meaning)


def dead_gradient(gradient_norm: Tensor, undefended_norm: Tensor) -> Indicator:
    """Median ratio of the victim's gradient norm [B] to the undefended backbone's at the same images and loss [B].

    Fires below 1e-4, our own threshold: a robust model's gradients are smaller by one or two orders, not by four.
    Norms that are exactly zero or not finite have indicators of their own; with none left the ratio counts as 1.
    """
    usable = (torch.minimum(gradient_norm, undefended_norm) > 0) & torch.isfinite(gradient_norm + undefended_norm)
    ratio = float((gradient_norm[usable] / undefended_norm[usable]).median()) if usable.any() else 1.0
    meaning = "gradients are four orders smaller than the undefended backbone's: masked rather than robust"
    return Indicator(name="dead-gradient", value=ratio, threshold=1e-4, fired=ratio < 1e-4, meaning=meaning)


def nan_gradient(lost: Tensor) -> Indicator:
    """Fraction of samples [B] marked in `lost`: a gradient with NaN or infinite entries in any step. Threshold 0."""
    meaning = "gradients that are NaN or infinite steer nothing: mend the victim's backward pass"
    return _above("nan-gradient", lost.float().mean(), 0.0, meaning)


def loss_not_rising(first_loss: Tensor, last_loss: Tensor, success: Tensor) -> Indicator:
    """Fraction of the samples not broken [B] whose loss ended no higher than it began.

    Threshold 0.05: our choice, after the tolerance of I4 (incomplete optimisation).
    """
    stood = ~success
    value = (last_loss <= first_loss)[stood].float().mean() if stood.any() else 0.0
    meaning = "the attack does not climb: other steps, another loss or fp32 are needed"
    return _above("loss-not-rising", value, 0.05, meaning)


def gradient_misleads(clean: Tensor, attacked: Tensor) -> Indicator:
    """Mean agreement of the gradient with the function [B each], the lower of clean and attacked images.

    Fires below 0.4, our own threshold. Measured on miniclip-vit at 16/255: own gradients 0.87 to 1, through TTC's inner
    sign steps 0.59; another model's gradient 0.24 to 0.29, noise 0.04. Without anything to compare it counts as 1.
    """
    told = [values[values > NOTHING] for values in (clean, attacked)]
    value = min((float(values.mean()) for values in told if len(values)), default=1.0)
    meaning = "the gradient does not predict what the logits do: what follows it proves nothing"
    return Indicator(name="gradient-misleads", value=value, threshold=0.4, fired=value < 0.4, meaning=meaning)


def unstable_replay(gaps: Tensor) -> Indicator:
    """Fraction of the recorded answers [B] that a fresh process gives otherwise, by more than 5 % of the logits' range.

    Threshold 0: who answers one caller otherwise than another is no function of the image.
    """
    meaning = "a fresh process answers the same images otherwise: state, labels or the caller are read"
    return _above("unstable-replay", (gaps > ROUNDING).float().mean(), 0.0, meaning)


def unstable_keys(seeded: Tensor, secret: Tensor) -> Indicator:
    """How sure it is (1 - p) that fewer answers are right on secret streams than on the seed's, both [answers] of 0, 1.

    Fisher's exact test, one-sided, at one in ten thousand, since it is asked of every cell.
    """
    table = [[float(v.sum()), float((1 - v).sum())] for v in (seeded, secret)]
    p = float(fisher_exact(table, alternative="greater").pvalue)
    meaning = "right answers depend on the random keys: they tell the defence which sample it sees"
    return _above("unstable-keys", 1 - p, 1 - 1e-4, meaning)


def silent_success(found: Tensor, success: Tensor) -> Indicator:
    """Fraction of samples [B] broken on the way but reported robust. Threshold 0: I3."""
    meaning = "an iterate was adversarial but another was returned: select any iterate"
    return _above("silent-success", (found.bool() & ~success).float().mean(), 0.0, meaning)


def out_of_ball(repaired: Tensor) -> Indicator:
    """Fraction of samples [B] that the attack left outside the ball or the box. Threshold 0: the threat model."""
    meaning = "the attack broke its own budget and was projected back: its images may be weaker than it thought"
    return _above("out-of-ball", repaired.float().mean(), 0.0, meaning)


def unstable_prediction(predictions: Tensor, *, eot: int = 1) -> Indicator:
    """Fraction of clean images whose class changes between fresh draws.

    Args:
        predictions: classes [draws, B].
        eot: draws that the attack averaged. Without averaging the threshold is 0 (AutoAttack's flag `randomised`);
            with it 0.1, where I2 puts the limit.
    """
    meaning = "the prediction is random: a single gradient is noise, average over draws (EOT)"
    changes = (predictions != predictions[0]).any(0)
    return _above("unstable-prediction", changes.float().mean(), 0.0 if eot == 1 else 0.1, meaning)


def batch_dependent(gap: Tensor) -> Indicator:
    """Largest shift of a sample's logits between its batch and alone, as a fraction of their range [probes].

    Threshold 0.05, our own: sign steps amplify float rounding to a few thousandths, a shared statistic does more.
    """
    return _above("batch-dependent", gap.max(), ROUNDING, "the answer depends on the neighbours in the batch")


def robust_above_clean(clean_accuracy: float, robust_accuracy: float) -> Indicator:
    """Robust minus clean accuracy. Threshold 0: an attack may always return the clean image."""
    meaning = "the attack helps the model: it descends, or it attacks something else"
    return _above("robust-above-clean", robust_accuracy - clean_accuracy, 0.0, meaning)


def not_converged(converged: Tensor) -> Indicator:
    """Fraction of samples [B] that a larger budget might still take: their curve was not flat. Threshold 0."""
    meaning = "the attack's budget had not converged: twice the steps or draws may break more"
    return _above("not-converged", 1 - converged.float().mean(), 0.0, meaning)


def unread_text(same: Tensor) -> Indicator:
    """Fraction of samples [B] whose logits are the very same under clean and attacked prompts. Threshold 0."""
    meaning = "the attacked sentences change nothing: the method reads class names alone, or no word was changed"
    return _above("unread-text", same.float().mean(), 0.0, meaning)


def attack_indicators(
    telemetry: Mapping[str, Tensor], success: Tensor, repaired: Tensor, *, eps: float
) -> tuple[Indicator, ...]:
    """The indicators that an attack's own record allows; series that the attack did not leave are skipped.

    Args:
        telemetry: series [B] as in AttackResult, batches joined. Where an attack began `saturated`, its goal reached, a
            gradient of zero says nothing.
        success: [B] bool.
        repaired: [B] bool.
        eps: radius; at 0 no loss can rise.
    """
    made = [out_of_ball(repaired)]
    if "gradient_norm" in telemetry:
        norm = telemetry["gradient_norm"]
        if "saturated" in telemetry:
            norm = norm.masked_fill(telemetry["saturated"].bool(), torch.inf)
        made.append(zero_gradient(norm))
    if "nan_gradient" in telemetry:
        made.append(nan_gradient(telemetry["nan_gradient"]))
    if {"first_loss", "last_loss"} <= telemetry.keys() and eps > 0:
        made.append(loss_not_rising(telemetry["first_loss"], telemetry["last_loss"], success))
    if "silent_success" in telemetry:
        made.append(silent_success(telemetry["silent_success"], success))
    if {"agreement_clean", "agreement_attacked"} <= telemetry.keys():
        made.append(gradient_misleads(telemetry["agreement_clean"], telemetry["agreement_attacked"]))
    if "converged" in telemetry:
        made.append(not_converged(telemetry["converged"]))
    if "replay_gap" in telemetry:
        made.append(unstable_replay(telemetry["replay_gap"]))
    if "secret" in telemetry:
        made.append(unstable_keys(telemetry["seeded"], telemetry["secret"]))
    if "unread_text" in telemetry:
        made.append(unread_text(telemetry["unread_text"]))
    return tuple(made)
