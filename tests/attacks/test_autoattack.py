"""Our orchestration of the official single attacks: the same algorithm, sample by sample."""

import sys
from dataclasses import dataclass

import pytest
import torch

from vlm_gauntlet.attacks import autoattack
from vlm_gauntlet.attacks.autoattack import APGDCE, APGDPM, APGDT, Goal, Single, random_start
from vlm_gauntlet.attacks.base import Plain, Run
from vlm_gauntlet.attacks.losses import LOSSES, dlr, margin, probability_margin
from vlm_gauntlet.fixtures.draws import Draws, key_of

KEYS = tuple(range(40))
NORMS = {"linf": ("Linf", 0.06), "l2": ("L2", 0.4)}


def correct(toy):
    model, images, labels = toy
    right = model(images).argmax(1) == labels
    return model, images[right], labels[right]


def theirs(kind, model, norm, eps, **budget):
    return getattr(autoattack.library, kind)(
        lambda x: model(x).float(), norm=norm, eps=eps, device=torch.device("cpu"), **budget
    )


@pytest.mark.parametrize("norm", NORMS)
def test_same_start_same_images_as_the_library(toy, norm):
    model, images, labels = correct(toy)
    name, eps = NORMS[norm]
    library = theirs("APGDAttack", model, name, eps, n_iter=30)
    library.init_hyperparam(images)
    start = random_start(images, norm, eps, Draws(KEYS[: len(images)], 0))
    with torch.no_grad():
        highest, stood, _, wrong = library.attack_single_run(images, labels, x_init=start)
    ours = APGDCE(norm, eps, steps=30).perturb(Run(Plain(model), images, labels, KEYS[: len(images)]))
    assert 0 < stood.float().mean() < 1
    assert torch.equal(ours, torch.where(stood.bool()[:, None, None, None], highest, wrong))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("ours", "kind"), [(APGDCE, "APGDAttack"), (APGDT, "APGDAttack_targeted")])
def test_as_strong_as_the_librarys_own_loop(toy, ours, kind, norm):
    model, images, labels = toy
    name, eps = NORMS[norm]
    budget = {"n_target_classes": 4} if ours is APGDT else {}
    with torch.no_grad(), torch.random.fork_rng():
        reference = theirs(kind, model, name, eps, n_iter=30, **budget).perturb(images, labels)
    official = int((model(reference).argmax(1) == labels).sum())
    result = ours(norm, eps, steps=30)(Plain(model), images, labels, KEYS)
    assert 0 < official < 40
    assert int((~result.success).sum()) <= official + 2
    assert not result.repaired.any()


@pytest.mark.parametrize(
    "attack", [APGDCE("linf", 0.06, steps=20, restarts=2), APGDPM("linf", 0.06, 9), APGDT("l2", 0.4, steps=10)]
)
def test_batch_split_and_order_do_not_matter(toy, attack):
    model, images, labels = toy
    whole = attack(Plain(model), images, labels, KEYS).images
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for part in order.split([1, 7, 32]):
        keys = tuple(KEYS[i] for i in part.tolist())
        assert torch.allclose(attack(Plain(model), images[part], labels[part], keys).images, whole[part], atol=1e-6)


@dataclass
class Noisy:
    """A randomised victim on the samples' own streams."""

    model: torch.nn.Module
    keys: tuple[int, ...]
    calls: int = 0

    def __call__(self, images):
        self.calls += 1
        return self.model(images + 0.01 * Draws(self.keys, self.calls).normal(images))

    def select(self, index):
        return Noisy(self.model, tuple(key_of(self.keys[i], self.calls) for i in index.tolist()))


def test_batch_split_does_not_matter_for_a_randomised_victim(toy):
    model, images, labels = toy
    attack = APGDCE("linf", 0.06, steps=6, restarts=2, eot=2)
    whole = attack(Noisy(model, KEYS), images, labels, KEYS).images
    for part in (slice(0, 3), slice(3, 40)):
        alone = attack(Noisy(model, KEYS[part]), images[part], labels[part], KEYS[part]).images
        assert torch.allclose(alone, whole[part], atol=1e-6)


def test_already_misclassified_images_return_as_they_are(toy):
    model, images, _ = toy
    wrong_labels = (model(images).argmax(1) + 1) % 5
    assert torch.equal(APGDCE("linf", 0.1, steps=5)(Plain(model), images, wrong_labels, KEYS).images, images)


def test_a_sample_that_stands_returns_its_highest_loss_not_the_clean_image(toy):
    model, images, labels = correct(toy)
    result = APGDCE("linf", 0.01, steps=10)(Plain(model), images, labels, KEYS[: len(images)])
    stood = ~result.success
    assert stood.any()
    assert (margin(model(result.images), labels) > margin(model(images), labels))[stood].all()
    assert (result.telemetry["last_loss"] > result.telemetry["first_loss"])[stood].all()


def test_apgd_pm_climbs_the_probability_margin_within_the_librarys_loop(toy, monkeypatch):
    model, images, labels = correct(toy)
    result = APGDPM("linf", 0.03, steps=10)(Plain(model), images, labels, KEYS[: len(images)])
    stood = ~result.success
    assert 0 < stood.sum() < len(images)
    for name, pictures in (("first_loss", images), ("last_loss", result.images)):
        torch.testing.assert_close(result.telemetry[name], probability_margin(model(pictures).float(), labels))
    monkeypatch.setitem(LOSSES, "pm", dlr)  # another loss, another path
    other = APGDPM("linf", 0.03, steps=10)(Plain(model), images, labels, KEYS[: len(images)])
    monkeypatch.setitem(LOSSES, "pm", lambda logits, labels: -probability_margin(logits, labels))
    down = APGDPM("linf", 0.03, steps=10)(Plain(model), images, labels, KEYS[: len(images)])
    assert not torch.equal(other.images, result.images) and not down.success.any()


def test_more_restarts_never_help_the_defender(toy):
    model, images, labels = toy
    one, three = (APGDCE("linf", 0.05, steps=4, restarts=r)(Plain(model), images, labels, KEYS) for r in (1, 3))
    assert not (one.success & ~three.success).any()


@pytest.mark.parametrize(
    ("classes", "goals", "note"),
    [
        (2, [Goal("ce")], "apgd-ce ran instead"),
        (3, [Goal("dlr")], "apgd-dlr ran instead"),
        (4, [Goal("dlr-targeted", r) for r in (1, 2, 3)], "3 targets instead of 9"),
        (10, [Goal("dlr-targeted", r) for r in range(1, 10)], None),
        (1000, [Goal("dlr-targeted", r) for r in range(1, 10)], None),
    ],
)
def test_goals_follow_the_number_of_classes(classes, goals, note):
    notes = []
    assert APGDT("linf", 0.1).goals(classes, notes) == goals
    assert len(notes) == (note is not None) and all(note in n for n in notes)


def test_targets_are_the_wrong_classes_by_clean_rank(toy, monkeypatch):
    model, images, labels = correct(toy)
    targets = []

    class Spy(Single):
        def __call__(self, *args):
            targets.append(self.target)
            return super().__call__(*args)

    monkeypatch.setattr(autoattack, "Single", Spy)
    APGDT("linf", 1e-6, steps=1).perturb(Run(Plain(model), images, labels, KEYS[: len(images)]))
    assert torch.equal(torch.stack(targets, dim=1), model(images).argsort(dim=1, descending=True)[:, 1:])


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_few_classes_run_and_say_so(toy, classes):
    model, images, labels = toy
    few = labels < classes
    result = APGDT("linf", 0.3, steps=5)(
        Plain(lambda x: model(x)[:, :classes]), images[few], labels[few], KEYS[: int(few.sum())]
    )
    assert result.success.any()
    assert any(f"{classes} classes" in note for note in result.notes)


def test_leaves_no_trace_in_the_process(toy, capfd):
    model, images, labels = toy
    state, tracer = torch.random.get_rng_state(), sys.gettrace()
    result = APGDT("linf", 0.05, steps=3)(Plain(model), images, labels, KEYS)
    assert torch.equal(torch.random.get_rng_state(), state) and sys.gettrace() is tracer
    assert all(p.grad is None for p in model.parameters())
    assert capfd.readouterr() == ("", "")
    assert any(note.startswith("single attacks: dlr-targeted, from") for note in result.notes)


def test_a_cached_half_precision_tensor_is_neither_changed_nor_a_crash(toy):
    """A victim without a graph, which hands out the same tensor at each call."""
    _, images, labels = toy
    cached = torch.nn.functional.one_hot(labels, 5).half()
    kept = cached.clone()
    result = APGDT("linf", 0.05, steps=3)(Constant(cached), images, labels, KEYS)
    assert torch.equal(cached, kept) and not result.success.any()
    assert (result.telemetry["gradient_norm"] == 0).all()
    assert any("zero gradient" in note for note in result.notes)


class Constant:
    """Logits that do not depend on the images."""

    def __init__(self, logits):
        self.logits = logits

    def __call__(self, images):
        return self.logits

    def select(self, index):
        return Constant(self.logits[index])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_nan_gradient_is_told_and_does_not_spread(norm):
    def model(images):
        red, rest = images[:, 0].flatten(1), images[:, 1:].mean((1, 2, 3))
        return torch.stack([torch.ones_like(rest), rest + (red - red).sqrt().sum(1)], dim=1)

    images, labels = torch.full((3, 3, 4, 4), 0.5), torch.zeros(3, dtype=torch.long)
    result = APGDCE(norm, 0.1, steps=5)(Plain(model), images, labels, KEYS[:3])
    assert result.telemetry["nan_gradient"].tolist() == [1, 1, 1]
    assert (result.telemetry["last_loss"] > result.telemetry["first_loss"]).all()


class Moody(Plain):
    """Right in every other call, whatever the images."""

    calls = 0

    def __call__(self, images):
        self.calls += 1
        logits = self.logits(images)
        return logits if self.calls % 2 else logits.flip(1)


@pytest.mark.parametrize("eot", [1, 2])
def test_under_eot_one_lucky_draw_is_no_success(eot):
    def logits(images):
        score = images.mean((1, 2, 3))
        return torch.stack([score + 1, score], dim=1)

    images, labels = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, dtype=torch.long)
    single = Single(APGDCE("linf", 0.1, steps=4, eot=eot), Moody(logits), "ce", None, [])
    _, _, broken = single(images, labels, Draws(KEYS[:2]))
    assert broken.tolist() == [eot == 1] * 2


def test_other_code_than_the_reviewed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    modules = tuple(autoattack.REVIEWED)
    assert "not the reviewed code" not in autoattack.source(*modules)
    monkeypatch.setitem(autoattack.REVIEWED, "fab_base", "0" * 64)
    autoattack.source.cache_clear()
    assert "not the reviewed code: SHA-256 of fab_base" in autoattack.source(*modules)
    monkeypatch.undo()
    autoattack.source.cache_clear()
