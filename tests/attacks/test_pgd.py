"""PGD against closed forms and invariants."""

import pytest
import torch

from vlm_gauntlet.attacks.base import Plain
from vlm_gauntlet.attacks.indicators import attack_indicators
from vlm_gauntlet.attacks.losses import TARGETED, cross_entropy
from vlm_gauntlet.attacks.pgd import PGD, fgsm

from .conftest import classifier

KEYS = tuple(range(1000, 1040))


def run(attack, model, images, labels, keys=KEYS):
    return attack(Plain(model), images, labels, keys[: len(images)])


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
@pytest.mark.parametrize("attack", ["pgd", "fgsm"])
def test_breaks_a_linear_model_exactly_beyond_margin_over_dual_norm(norm, dual, attack):
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(48, generator=generator)
    images = 0.45 + 0.1 * torch.rand(20, 3, 4, 4, generator=generator)
    model = classifier(weight, bias=-float(weight.sum()) / 2)
    labels = model(images).argmax(1)
    reach = (model(images)[:, 1] - model(images)[:, 0]).abs() / weight.norm(p=dual)
    for image, label, radius in zip(images, labels, reach.tolist(), strict=True):
        for eps, broken in ((radius - 1e-4, False), (radius + 1e-4, True)):
            made = fgsm(norm, eps) if attack == "fgsm" else PGD(norm, eps, steps=10, random_start=False)
            assert bool(run(made, model, image[None], label[None]).success) is broken


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_zero_budget_changes_nothing(toy, norm):
    model, images, labels = toy
    assert torch.equal(run(PGD(norm, 0.0), model, images, labels).images, images)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_any_iterate_is_never_worse_than_final(toy, norm):
    model, images, labels = toy
    for step_size in (0.25, 2.0):
        final, any_iterate = (
            run(PGD(norm, 0.08, steps=5, step_size=step_size, selection=s), model, images, labels).success
            for s in ("final", "any-iterate")
        )
        assert not (final & ~any_iterate).any()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_batch_split_and_order_do_not_matter(toy, norm):
    model, images, labels = toy
    attack = PGD(norm, 0.08, restarts=2)
    whole = run(attack, model, images, labels).images
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    for part in order.split([1, 7, 32]):
        keys = tuple(KEYS[i] for i in part.tolist())
        assert torch.allclose(run(attack, model, images[part], labels[part], keys).images, whole[part], atol=1e-6)


def test_same_keys_same_bits_and_other_keys_other_starts(toy):
    model, images, labels = toy
    attack = PGD("linf", 0.05, steps=1)
    first, again = (run(attack, model, images, labels).images for _ in range(2))
    assert torch.equal(first, again)
    other = run(attack, model, images, labels, tuple(range(40))).images
    assert (first != other).flatten(1).any(1).all()


def test_parameters_get_no_gradient_and_stay(toy):
    model, images, labels = toy
    before = [p.detach().clone() for p in model.parameters()]
    run(PGD("linf", 0.05), model, images, labels)
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))


def test_the_callers_random_stream_stays(toy):
    model, images, labels = toy
    state = torch.random.get_rng_state()
    run(PGD("linf", 0.05), model, images, labels)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("selection", ["final", "any-iterate"])
def test_more_restarts_never_help_the_defender(toy, selection):
    model, images, labels = toy
    broken = [
        run(PGD("linf", 0.07, steps=2, restarts=r, selection=selection), model, images, labels).success
        for r in (1, 2, 4)
    ]
    assert not (broken[0] & ~broken[1]).any() and not (broken[1] & ~broken[2]).any()


def test_of_the_misclassified_iterates_the_strongest_is_kept_unless_told_to_stop(toy):
    model, images, labels = toy
    calls = []

    def counting(x):
        calls.append(len(x))
        return model(x)

    eager, patient = (
        run(PGD("linf", 0.3, steps=12, selection="any-iterate", stop=stop), counting, images, labels)
        for stop in (True, False)
    )
    assert torch.equal(eager.success, patient.success) and eager.success.all()
    loss = [cross_entropy(model(result.images).float(), labels) for result in (eager, patient)]
    assert (loss[0] <= loss[1] + 1e-6).all() and (loss[0] < loss[1]).any()
    assert len(calls) < 2 * 14, "the eager one ended early"


def test_a_pixel_at_the_border_comes_back():
    """Pixel a is pushed below 0 until pixel b has moved. A clamp inside the graph would hold it there for good."""
    eps = 0.1

    def model(images):
        a, b = images[:, 0, 0, 0], images[:, 0, 0, 1]
        wrong = 100 * (b - 0.5 - 0.3 * eps) * a + b
        return torch.stack([torch.zeros_like(wrong), wrong], dim=1)

    clean = torch.zeros(1, 3, 2, 2)
    clean[0, 0, 0, 1] = 0.5
    label = torch.zeros(1, dtype=torch.long)
    moved = run(PGD("linf", eps, steps=10, random_start=False), model, clean, label).images
    assert moved[0, 0, 0, 0] == pytest.approx(eps, abs=1e-6)


def test_each_restart_starts_elsewhere(toy):
    model, images, labels = toy
    seen = []
    run(PGD("linf", 0.1, steps=1, restarts=3), lambda x: seen.append(x.detach()) or model(x), images, labels)
    starts = seen[0:6:2]  # a step and a last look for each restart
    assert all((a != b).flatten(1).any(1).all() for a, b in zip(starts, starts[1:] + starts[:1], strict=True))


def test_random_starts_fill_the_ball(toy):
    model, images, labels = toy
    for norm in ("linf", "l2"):
        start = run(PGD(norm, 0.1, steps=0), model, images.clamp(0.2, 0.8), labels).images
        delta = (start - images.clamp(0.2, 0.8)).flatten(1)
        length = delta.abs().amax(1) if norm == "linf" else delta.norm(dim=1)
        assert length.max() <= 0.1 + 1e-6 and length.max() > 0.09
        assert delta.min() < 0 < delta.max()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_nan_gradient_is_told_and_does_not_spread(norm):
    def model(images):
        red, rest = images[:, 0].flatten(1), images[:, 1:].mean((1, 2, 3))
        return torch.stack([torch.ones_like(rest), rest + (red - red).sqrt().sum(1)], dim=1)

    images, labels = torch.full((2, 3, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    result = run(PGD(norm, 0.1), model, images, labels)
    assert result.telemetry["nan_gradient"].tolist() == [1, 1]
    assert (result.telemetry["last_loss"] > result.telemetry["first_loss"]).all()


def test_what_happened_once_is_told_at_the_end():
    """Of a NaN at the first step, a success on the way and a high loss, later steps and restarts take nothing back."""

    def model(images):
        level = images.mean((1, 2, 3))
        spoilt = torch.where((level - 0.5).abs() < 1e-6, (level - level).sqrt(), torch.zeros_like(level))
        return torch.stack([torch.zeros_like(level), 0.05 - (level - 0.56).abs() * 2 + spoilt], dim=1)

    images, labels = torch.full((2, 3, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    told = run(PGD("linf", 0.1, steps=4, step_size=0.4, random_start=False), model, images, labels).telemetry
    assert told["nan_gradient"].tolist() == [1, 1], "of the first of four steps"

    def ridge(images):
        return torch.stack([torch.zeros(len(images)), 0.02 - (images.mean((1, 2, 3)) - 0.56).abs()], dim=1)

    attack = PGD("linf", 0.1, steps=2, step_size=0.5, restarts=2, random_start=False)
    ends = iter([0.0, 0.0, -1.0, 0.0, 0.0, -2.0])  # the last call of each restart: the first ended higher

    def ending(x):
        return ridge(x) + torch.tensor([0.0, 1.0]) * next(ends, 0.0)

    told = run(attack, ending, images[:1], labels[:1]).telemetry
    assert told["silent_success"].tolist() == [1]
    expected = torch.nn.functional.softplus(ridge(torch.full((1, 3, 2, 2), 0.6))[0, 1] - 1.0)
    assert float(told["last_loss"]) == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("loss", ["ce-targeted", "dlr-targeted"])
def test_restart_r_goes_for_the_wrong_class_of_rank_r(toy, loss, monkeypatch):
    model, images, labels = toy
    targets = []

    def spy(target, logits, labels):
        targets.append(target)
        return honest(target, logits, labels)

    honest = TARGETED[loss]
    monkeypatch.setitem(TARGETED, loss, spy)
    run(PGD("linf", 0.1, steps=0, restarts=3, loss=loss), model, images, labels)
    ranked = model(images).scatter(1, labels[:, None], -torch.inf).argsort(dim=1, descending=True)
    assert torch.equal(torch.stack(targets, dim=1), ranked[:, :3])


def test_the_least_likely_class_comes_first_where_it_is_asked_for(toy, monkeypatch):
    """And with steps enough BIM gets there (ILCM)."""
    model, images, labels = toy
    targets, honest = [], TARGETED["ce-targeted"]
    monkeypatch.setitem(TARGETED, "ce-targeted", lambda t, z, y: targets.append(t) or honest(t, z, y))
    ilcm = {"loss": "ce-targeted", "targets": "least-likely", "random_start": False}
    run(PGD("linf", 0.1, steps=0, restarts=2, **ilcm), model, images, labels)
    ranked = model(images).scatter(1, labels[:, None], torch.inf).argsort(dim=1)
    assert torch.equal(torch.stack(targets, dim=1), ranked[:, :2])
    made = run(PGD("linf", 0.8, steps=30, step_size=0.1, **ilcm), model, images, labels).images
    assert (model(made).argmax(1) == ranked[:, 0]).float().mean() > 0.8


def test_a_loss_without_targets_has_no_order_of_them():
    with pytest.raises(ValueError, match="targets = least-likely with the loss ce"):
        PGD("linf", 0.1, targets="least-likely")


def test_a_target_within_reach_is_reached(toy):
    model, images, labels = toy
    made = run(PGD("linf", 0.4, steps=30, loss="ce-targeted"), model, images, labels).images
    second = model(images).scatter(1, labels[:, None], -torch.inf).argmax(1)
    assert torch.equal(model(made).argmax(1), second)


def test_more_targets_never_help_the_defender(toy):
    model, images, labels = toy
    broken = [
        run(PGD("linf", 0.1, steps=5, restarts=r, loss="dlr-targeted"), model, images, labels).success
        for r in (1, 2, 4)
    ]
    assert not (broken[0] & ~broken[1]).any() and not (broken[1] & ~broken[2]).any()
    assert broken[0].sum() < broken[2].sum()


@pytest.mark.parametrize(
    ("loss", "classes", "note"),
    [
        ("dlr", 2, "dlr needs 3 classes, there are 2: ce instead"),
        ("dlr-targeted", 3, "dlr-targeted needs 4 classes, there are 3: ce-targeted instead"),
        ("dlr-targeted", 4, "3 targets instead of 9, there are 4 classes"),
        ("ce-targeted", 2, "1 targets instead of 9, there are 2 classes"),
        ("ce-targeted", 1, "ce-targeted needs 2 classes, there are 1: ce instead"),
        ("dlr-targeted", 1, "dlr-targeted needs 4 classes, there are 1: ce instead"),
        ("ce", 1, None),
        ("boundary", 1, None),
        ("cw", 2, None),
        ("pm", 1, None),
        ("pm", 2, None),
    ],
)
def test_few_classes_run_and_say_so(toy, loss, classes, note):
    model, images, labels = toy
    few = labels < classes
    attack = PGD("linf", 0.3, restarts=9 if "targeted" in loss else 1, loss=loss, kappa=50.0 * (loss == "cw"))
    result = run(attack, lambda x: model(x)[:, :classes], images[few], labels[few])
    assert result.success.any() == (classes > 1)
    assert note in result.notes if note else not result.notes


def test_boundary_stays_where_it_crosses_and_cw_goes_on(toy):
    model, images, labels = toy
    short, long = (run(PGD("linf", 0.2, s, loss="boundary", step_size=0.02), model, images, labels) for s in (60, 90))
    assert short.success.float().mean() > 0.8
    assert torch.equal(short.images[short.success], long.images[short.success])
    far = run(PGD("linf", 0.2, 60, loss="cw", kappa=50.0, step_size=0.02), model, images, labels)
    both = short.success & far.success

    def lead(made):
        values = model(made.images)[both]
        return values.amax(1) - values.gather(1, labels[both][:, None]).squeeze(1)

    assert (lead(short) < 0.1 * lead(far)).float().mean() > 0.8


def test_an_image_that_rests_from_the_start_is_no_masked_gradient(toy):
    model, images, labels = toy
    labels = torch.where(torch.arange(40) < 5, (labels + 1) % 5, labels)
    wrong = model(images).argmax(1) != labels
    attack = PGD("linf", 0.01, loss="boundary", random_start=False)
    result = run(attack, model, images, labels)
    assert wrong.any() and torch.equal(result.telemetry["saturated"].bool(), wrong)
    assert torch.equal(result.images[wrong], images[wrong])

    def fired(victim):
        told = run(attack, victim, images, labels)
        made = attack_indicators(told.telemetry, told.success, told.repaired, eps=0.01)
        return {i.name for i in made if i.fired}

    assert "zero-gradient" not in fired(model)
    assert "zero-gradient" in fired(lambda x: model(x.detach()))


def test_momentum_by_hand():
    """MI-FGSM on a known gradient: g <- mu g + grad / mean |grad|, a step of alpha along its sign."""
    first, second = torch.tensor([4.0, -1.0, 1.0]), torch.tensor([-1.0, 2.0, 9.0])

    def model(images):
        pixel = images[:, :, 0, 0]
        moved = (pixel - 0.5).abs().amax(1, keepdim=True) > 1e-4
        score = (pixel * torch.where(moved, second, first)).sum(1)
        return torch.stack([-score, score], dim=1)

    images, labels = torch.full((1, 3, 1, 1), 0.5), torch.zeros(1, dtype=torch.long)
    steps = dict(steps=2, step_size=0.1, random_start=False, loss="cw", kappa=1e4)
    plain = run(PGD("linf", 0.1, **steps), model, images, labels).images.flatten() - 0.5
    heavy = run(PGD("linf", 0.1, **steps, momentum=1.0), model, images, labels).images.flatten() - 0.5
    # first / mean = (2, -.5, .5), second / mean = (-.25, .5, 2.25); their sum is (1.75, 0, 2.75).
    assert plain.tolist() == pytest.approx([0.0, 0.0, 0.02], abs=1e-6)
    assert heavy.tolist() == pytest.approx([0.02, -0.01, 0.02], abs=1e-6)
