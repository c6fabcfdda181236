import itertools
import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from d2lext.mixup import (
    FocalLoss,
    calibration_bins,
    cutmix_data,
    draw_lam,
    expected_calibration_error,
    mixup_criterion,
    mixup_data,
    train_batch_mixup,
)
from tests.common import CPU, LOSS, flat, make_net, refused, seeded, sgd

CLASSES = 5
MIXES = pytest.mark.parametrize("mix", [mixup_data, cutmix_data])
BOTH = pytest.mark.parametrize("per_example", [False, True])


def make_batch(n: int = 6, seed: int = 0):
    X = torch.rand(n, 3, 8, 6, generator=seeded(seed))
    return X, torch.randint(0, CLASSES, (n,), generator=seeded(seed))


X, Y = make_batch()
SOFT = F.one_hot(Y, CLASSES).float()


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1, 4])
def test_lam_is_beta(alpha) -> None:
    draws = draw_lam(alpha, 20_000, seeded()).numpy()
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert len(torch.cat([draw_lam(alpha) for _ in range(9)]).unique()) == 9


@given(st.floats(1e-6, 1e6))
def test_lam_is_a_weight_for_every_alpha(alpha) -> None:
    draws = draw_lam(alpha, 50)
    assert draws.isfinite().all() and draws.min() >= 0 and draws.max() <= 1


@MIXES
@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_alpha_0_changes_nothing_and_no_alpha_the_dtype(mix, per_example, dtype):
    x = X.to(dtype)
    mixed, y_a, _, lam = mix(x, Y, 0, per_example)
    assert torch.equal(mixed, x) and torch.equal(y_a, Y)
    assert torch.as_tensor(lam).eq(1).all()
    other, *_, lams = mix(x, Y, 1.0, per_example)
    assert mixed.dtype == other.dtype == dtype
    assert (len(set(lams.tolist())) > 1) if per_example else type(lams) is float


@MIXES
@BOTH
def test_a_generator_or_a_seed_repeats_the_draw(mix, per_example) -> None:
    def mixed(*generators) -> list[torch.Tensor]:
        torch.manual_seed(3)
        return [mix(X, Y, 1.0, per_example, generator=g)[0] for g in generators]

    before = X.clone(), Y.clone()
    a, b, c, d = mixed(None, seeded(1), None, seeded(2))
    # A generator leaves the global one alone.
    assert all(map(torch.equal, mixed(None, None, seeded(1), seeded(2)), (a, c, b, d)))
    pairs = itertools.combinations((a, b, c, d), 2)
    assert not any(torch.equal(*pair) for pair in pairs)
    assert torch.equal(X, before[0]) and torch.equal(Y, before[1])


def test_a_batch_is_mixed_with_a_permutation_of_itself() -> None:
    x, y = torch.eye(50), torch.arange(50)
    mixed, y_a, y_b, lam = mixup_data(x, y, 1.0, generator=seeded())
    assert torch.equal(y_b.sort().values, y) and not torch.equal(y_b, y)
    expected = lam * F.one_hot(y_a, 50) + (1 - lam) * F.one_hot(y_b, 50)
    torch.testing.assert_close(mixed, expected)  # images and labels go together


@MIXES
@BOTH
@given(st.integers(2, 8), st.floats(0.05, 8), st.integers(0, 100))
@settings(max_examples=40)
def test_mixing_equals_torchvisions(mix, per_example, n, alpha, seed) -> None:
    x, y = make_batch(n, seed)
    other = x.roll(1, 0), y.roll(1, 0)
    mixed, y_a, y_b, lam = mix(x, y, alpha, per_example, other)
    assert torch.equal(y_a, y) and torch.equal(y_b, other[1])
    lams = lam.tolist() if per_example else [lam] * n
    for i, lam in enumerate(lams):
        theirs, params = v2.MixUp(num_classes=CLASSES), {"lam": lam}
        if mix is cutmix_data:
            where = (mixed[i] != x[i]).any(0).nonzero()  # (pixels, 2)
            none = torch.zeros(2, 2, dtype=torch.int64)
            ends = [where.amin(0), where.amax(0) + 1] if len(where) else none
            (top, left), (bottom, right) = (end.tolist() for end in ends)
            area = (bottom - top) * (right - left)
            assert lam == pytest.approx(1 - area / (8 * 6))
            theirs = v2.CutMix(num_classes=CLASSES)
            params = {"box": (left, top, right, bottom), "lam_adjusted": lam}
        theirs.make_params = lambda flat_inputs, given=params: given
        # It mixes the first of two with the second.
        (expected, _), (label, _) = theirs(x[[i, i - 1]], y[[i, i - 1]])
        torch.testing.assert_close(mixed[i], expected)
        ours = lam * F.one_hot(y_a, CLASSES) + (1 - lam) * F.one_hot(y_b, CLASSES)
        torch.testing.assert_close(ours[i], label)


def test_cutmix_draws_the_papers_rectangles() -> None:
    """All centres, equally often; what is outside of the image is cut off."""
    lam, height, width = 0.5, 8, 6
    expected = {}
    for cy, cx in itertools.product(range(height), range(width)):
        half = [int(size * math.sqrt(1 - lam) / 2) for size in (height, width)]
        rows = range(max(0, cy - half[0]), min(height, cy + half[0]))
        columns = range(max(0, cx - half[1]), min(width, cx + half[1]))
        area = frozenset(itertools.product(rows, columns))
        expected[area] = expected.get(area, 0) + 1 / (height * width)
    n = 20_000
    X, y = torch.zeros(n, 1, height, width), torch.zeros(n, dtype=torch.int64)
    huge = 1e12  # Beta is 0.5, then
    mixed, _, _, lams = cutmix_data(X, y, huge, True, (X + 1, y), seeded())
    found = {}
    for image, lam in zip(mixed[:, 0], lams.tolist(), strict=True):
        area = frozenset(map(tuple, image.nonzero().tolist()))
        assert lam == pytest.approx(1 - len(area) / (height * width))
        found[area] = found.get(area, 0) + 1 / n
    assert found.keys() == expected.keys()
    for area, part in expected.items():
        assert abs(found[area] - part) < 5 * math.sqrt(part / n)


@MIXES
def test_probabilities_are_mixed_as_indices_are(mix) -> None:
    hard = mix(X, Y, 1.0, generator=seeded())
    mixed, a, b, lam = mix(X, SOFT, 1.0, generator=seeded())
    assert torch.equal(mixed, hard[0]) and lam == hard[3]
    assert torch.equal(a, SOFT) and torch.equal(b.argmax(1), hard[2])


@BOTH
@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 1000))
@settings(max_examples=50)
def test_loss_and_gradient_equal_soft_labels(per_example, n, classes, seed) -> None:
    generator = seeded(seed)
    pred = torch.randn(n, classes, generator=generator).double().requires_grad_()
    y_a, y_b = torch.randint(0, classes, (2, n), generator=generator)
    lam = draw_lam(0.5, n if per_example else 1, generator)
    loss = nn.CrossEntropyLoss(reduction="none" if per_example else "mean")
    weight = lam if per_example else lam.item()
    l = mixup_criterion(loss, pred, y_a, y_b, weight).mean()
    lam = lam[:, None]
    soft = lam * F.one_hot(y_a, classes) + (1 - lam) * F.one_hot(y_b, classes)
    expected = -(soft * pred.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(l, expected)
    gradients = (torch.autograd.grad(value, pred)[0] for value in (l, expected))
    torch.testing.assert_close(*gradients)


@MIXES
@BOTH
def test_a_step_uses_the_mixed_loss_and_weighted_hits(mix, per_example) -> None:
    X, y = make_batch(40)
    mix = partial(mix, per_example=per_example)
    net, same = make_net(96), make_net(96)
    torch.manual_seed(5)
    sums = train_batch_mixup(net, X, y, LOSS, sgd(net), CPU, False, 1.0, mix)
    torch.manual_seed(5)
    mixed, y_a, y_b, lam = mix(X, y, 1.0)
    pred = same(mixed)
    lam = torch.as_tensor(lam).expand(40)
    loss = (lam * LOSS(pred, y_a) + (1 - lam) * LOSS(pred, y_b)).sum()
    loss.backward()
    sgd(same).step()
    torch.testing.assert_close(flat(net), flat(same))
    each = zip(pred.argmax(1), y_a, y_b, lam, strict=True)
    hits = sum(part * (i == a) + (1 - part) * (i == b) for i, a, b, part in each)
    torch.testing.assert_close(sums, (loss.detach(), hits.float()), check_dtype=False)


def test_bins_equal_a_loop_and_add_up() -> None:
    generator = seeded()
    pred = 3 * torch.randn(300, CLASSES, generator=generator)
    y = torch.randint(0, CLASSES, (300,), generator=generator)
    bins = [[0, 0.0, 0] for _ in range(15)]
    for row, label in zip(pred.double().softmax(1).tolist(), y.tolist(), strict=True):
        confidence = max(row)
        into = bins[math.ceil(confidence * 15) - 1]
        into[0] += 1
        into[1] += confidence
        into[2] += row.index(confidence) == label
    found = calibration_bins(pred, y)
    torch.testing.assert_close(found, torch.tensor(bins, dtype=torch.float64))
    parts = map(calibration_bins, pred.split(100), y.split(100))
    torch.testing.assert_close(found, sum(parts))
    error = sum(n / 300 * abs(h / n - c / n) for n, c, h in bins if n)
    assert expected_calibration_error(found) == pytest.approx(error)


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5])
def test_focal_loss_equals_the_papers(gamma) -> None:
    generator = seeded()
    pred = torch.randn(20, CLASSES, generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (20,), generator=generator)
    p = pred.softmax(1)[range(20), y]
    expected = -((1 - p) ** gamma) * p.log()
    torch.testing.assert_close(FocalLoss(gamma, "none")(pred, y), expected)
    torch.testing.assert_close(FocalLoss(gamma)(pred, y), expected.mean())
    torch.testing.assert_close(FocalLoss(gamma, "sum")(pred, y), expected.sum())
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda pred: FocalLoss(gamma)(pred, y), pred)


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("size", [50.0, 1e4])
def test_focal_loss_of_sure_predictions_is_finite(gamma, size) -> None:
    pred = torch.tensor([[size, 0.0], [0.0, size]], requires_grad=True)
    y = torch.tensor([0, 0])  # surely right, and surely wrong
    l = FocalLoss(gamma, "none")(pred, y)
    l.sum().backward()
    assert l[0].item() < 1e-6 and l[1].item() == pytest.approx(size)
    assert pred.grad.isfinite().all()


NET = make_net(96)
REFUSED = r"""
mixup_data(X, Y, (0.5,))                             | alpha: expected a finite number
mixup_data(X.byte(), Y, 0.5)                         | x: expected a tensor of floats
mixup_data(X, Y[:5], 0.5)                            | y: has 5 labels for 6 examples
mixup_data(X, Y, 0.5, other=(X, SOFT))               | other.1.: expected the shape of y
cutmix_data(X[:, 0, 0], Y, 0.5)                      | x: expected shape .n, c, h, w.
mixup_criterion(FocalLoss, SOFT, Y, Y, 0.5)          | criterion: FocalLoss is a class
mixup_criterion(F.cross_entropy, SOFT, Y, Y, SOFT[:, 0]) | 6 values.*reduction="none"
mixup_criterion(F.cross_entropy, SOFT, Y, Y, X)      | lam: .*got shape .6, 3, 8, 6
FocalLoss(X)                                         | gamma: expected a finite
FocalLoss(2, "all")                                  | reduction: expected mean
FocalLoss()(SOFT, SOFT)                              | y: expected class indices
calibration_bins(SOFT, Y)                            | pred: .*before softmax
calibration_bins(SOFT / 0, Y)                        | pred: .*finite
train_batch_mixup(NET, X, SOFT, LOSS, sgd(NET), CPU) | y: expected class indices
"""
test_what_does_not_fit_is_named = refused(globals(), REFUSED)
