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

from d2lext import mixup
from d2lext.mixup import (
    AdditiveMarginHead,
    FocalLoss,
    calibration_bins,
    cutmix_data,
    draw_lam,
    expected_calibration_error,
    mixup_criterion,
    mixup_data,
    train_batch_mixup,
)
from d2lext.multi_gpu import train_batch_ch13, train_ch13

CPU = [torch.device("cpu")]
CLASSES = 5
MIXES = pytest.mark.parametrize("mix", [mixup_data, cutmix_data])
BOTH = pytest.mark.parametrize("per_example", [False, True])


@pytest.fixture(autouse=True)
def quiet(monkeypatch) -> None:
    monkeypatch.setenv("D2LEXT_RUNS", "")


def make_batch(n: int = 6, seed: int = 0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    X = torch.rand(n, 3, 8, 6, generator=generator, dtype=dtype)
    return X, torch.randint(0, CLASSES, (n,), generator=generator)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# lambda


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1, 4])
def test_lam_is_beta(alpha) -> None:
    draws = draw_lam(alpha, 20_000, seeded()).numpy()
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    spread = 1 / (4 * (2 * alpha + 1))  # the variance
    assert abs(draws.mean() - 0.5) < 5 * math.sqrt(spread / len(draws))
    assert draws.var() == pytest.approx(spread, rel=0.05)


@given(st.floats(1e-6, 1e6))
def test_lam_is_a_weight_for_every_alpha(alpha) -> None:
    draws = draw_lam(alpha, 50)
    assert draws.isfinite().all() and draws.min() >= 0 and draws.max() <= 1


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf, "1", None, (0.5,)])
@MIXES
def test_alphas_that_cannot_be(mix, alpha) -> None:
    with pytest.raises(ValueError, match="alpha: expected a finite number >= 0"):
        mix(*make_batch(), alpha)


# Mixing


@MIXES
@BOTH
def test_alpha_0_changes_nothing(mix, per_example) -> None:
    X, y = make_batch()
    mixed, y_a, _, lam = mix(X, y, 0, per_example)
    assert torch.equal(mixed, X) and torch.equal(y_a, y)
    assert torch.as_tensor(lam).eq(1).all()


@MIXES
@BOTH
def test_a_generator_or_a_seed_repeats_the_draw(mix, per_example) -> None:
    X, y = make_batch()

    def differs(a, b) -> bool:
        return not torch.equal(a[0], b[0])

    first, again, other = (
        mix(X, y, 1.0, per_example, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert not differs(first, again) and differs(first, other)
    torch.manual_seed(3)
    first, following = (mix(X, y, 1.0, per_example) for _ in range(2))
    torch.manual_seed(3)
    assert differs(first, following)
    assert not differs(first, mix(X, y, 1.0, per_example))


@MIXES
def test_a_generator_leaves_the_global_one_alone(mix) -> None:
    state = torch.get_rng_state()
    mix(*make_batch(), 1.0, generator=seeded())
    assert torch.equal(torch.get_rng_state(), state)


@MIXES
@BOTH
def test_the_input_is_not_written_to(mix, per_example) -> None:
    X, y = make_batch()
    before = X.clone(), y.clone()
    mix(X, y, 1.0, per_example)
    assert torch.equal(X, before[0]) and torch.equal(y, before[1])


@BOTH
def test_mixup_equals_a_loop_over_examples(per_example) -> None:
    X, y = make_batch(dtype=torch.float64)
    other = make_batch(seed=1, dtype=torch.float64)
    mixed, y_a, y_b, lam = mixup_data(X, y, 1.0, per_example, other)
    lams = lam.tolist() if per_example else [lam] * len(X)
    assert len(set(lams)) == (len(X) if per_example else 1)
    for i, weight in enumerate(lams):
        expected = weight * X[i] + (1 - weight) * other[0][i]
        torch.testing.assert_close(mixed[i], expected)
    assert torch.equal(y_a, y) and torch.equal(y_b, other[1])


def test_a_batch_is_mixed_with_a_permutation_of_itself() -> None:
    X, y = torch.eye(50), torch.arange(50)
    mixed, y_a, y_b, lam = mixup_data(X, y, 1.0, generator=seeded())
    assert torch.equal(y_b.sort().values, y) and not torch.equal(y_b, y)
    expected = lam * F.one_hot(y_a, 50) + (1 - lam) * F.one_hot(y_b, 50)
    torch.testing.assert_close(mixed, expected)  # pictures and labels go together


@MIXES
def test_a_batch_of_one_mixes_nothing(mix) -> None:
    X, y = make_batch(1)
    assert torch.equal(mix(X, y, 1.0)[0], X)


class Given:
    """torchvision's transforms, with parameters given instead of drawn."""

    def __init__(self, **params) -> None:
        super().__init__(num_classes=CLASSES)
        self.params = params

    def make_params(self, flat_inputs) -> dict:
        return self.params


class GivenMixUp(Given, v2.MixUp):
    pass


class GivenCutMix(Given, v2.CutMix):
    pass


def rolled(X, y):
    return X.roll(1, 0), y.roll(1, 0)  # what torchvision mixes a batch with


@given(st.integers(2, 8), st.floats(0.05, 8), st.integers(0, 100))
def test_mixup_equals_torchvisions(n, alpha, seed) -> None:
    X, y = make_batch(n, seed)
    mixed, y_a, y_b, lam = mixup_data(X, y, alpha, other=rolled(X, y))
    expected, labels = GivenMixUp(lam=lam)(X, y)
    torch.testing.assert_close(mixed, expected)
    ours = lam * F.one_hot(y_a, CLASSES) + (1 - lam) * F.one_hot(y_b, CLASSES)
    torch.testing.assert_close(ours, labels)


@given(st.integers(2, 8), st.floats(0.05, 8), st.integers(0, 100))
def test_cutmix_equals_torchvisions(n, alpha, seed) -> None:
    X, y = make_batch(n, seed)
    mixed, y_a, y_b, lam = cutmix_data(X, y, alpha, other=rolled(X, y))
    pasted = (mixed != X).any(0).any(0).nonzero()  # where: (places, 2)
    if len(pasted) == 0:
        assert torch.equal(mixed, X)
        return
    (y1, x1), (y2, x2) = pasted.amin(0).tolist(), (pasted.amax(0) + 1).tolist()
    expected, labels = GivenCutMix(box=(x1, y1, x2, y2), lam_adjusted=lam)(X, y)
    assert torch.equal(mixed, expected)
    assert lam == pytest.approx(1 - (x2 - x1) * (y2 - y1) / (8 * 6))
    ours = lam * F.one_hot(y_a, CLASSES) + (1 - lam) * F.one_hot(y_b, CLASSES)
    torch.testing.assert_close(ours, labels)


def test_cutmix_draws_the_papers_rectangles() -> None:
    """All centres, equally often; what is outside of the picture is cut off."""
    lam, height, width = 0.5, 8, 6
    expected = {}
    for cy, cx in itertools.product(range(height), range(width)):
        half = (
            int(height * math.sqrt(1 - lam) / 2),
            int(width * math.sqrt(1 - lam) / 2),
        )
        rows = range(max(0, cy - half[0]), min(height, cy + half[0]))
        columns = range(max(0, cx - half[1]), min(width, cx + half[1]))
        area = frozenset(itertools.product(rows, columns))
        expected[area] = expected.get(area, 0) + 1 / (height * width)
    n = 20_000
    X, y = torch.zeros(n, 1, height, width), torch.zeros(n, dtype=torch.int64)
    huge = 1e12  # Beta is 0.5, then
    mixed, _, _, lams = cutmix_data(X, y, huge, True, (X + 1, y), seeded())
    found = {}
    for picture, lam in zip(mixed[:, 0], lams.tolist(), strict=True):
        area = frozenset(map(tuple, picture.nonzero().tolist()))
        assert lam == pytest.approx(1 - len(area) / (height * width))
        found[area] = found.get(area, 0) + 1 / n
    assert found.keys() == expected.keys()
    for area, part in expected.items():
        assert abs(found[area] - part) < 5 * math.sqrt(part / n)


@BOTH
def test_mixing_keeps_dtype_and_takes_other_shapes(per_example) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        X, y = make_batch(dtype=dtype)
        assert mixup_data(X, y, 1.0, per_example)[0].dtype == dtype
        assert cutmix_data(X, y, 1.0, per_example)[0].dtype == dtype
    X, y = torch.rand(6, 7), torch.arange(6)
    assert mixup_data(X, y, 1.0, per_example)[0].shape == X.shape


X, Y = make_batch()
PICTURES = torch.zeros(6, 3, 8, 6, dtype=torch.uint8)


@MIXES
@pytest.mark.parametrize(
    ("x", "y", "other", "error", "words"),
    [
        (PICTURES, Y, None, TypeError, r"x: .*floats, got torch.uint8.*to_float"),
        (X.numpy(), Y, None, TypeError, "x: expected a tensor of floats, got ndarray"),
        (X, Y[:5], None, ValueError, "y: has 5 labels for 6 examples"),
        (X, Y.float(), None, TypeError, "y: expected class indices.*torch.float32"),
        (X, F.one_hot(Y), None, TypeError, r"y: .*of shape \(6, 5\)"),
        (X, Y > 1, None, TypeError, "y: expected class indices.*torch.bool"),
        (X, Y.tolist(), None, TypeError, "y: expected class indices.*got list"),
        (X, Y, (X[:5], Y[:5]), ValueError, r"other\[0\]: expected the shape of x"),
        (X, Y, (PICTURES, Y), TypeError, r"other\[0\]: expected a tensor of floats"),
        (X, Y, (X, Y[:5]), ValueError, r"other\[1\]: has 5 labels"),
    ],
)
def test_batches_that_cannot_be_mixed(mix, x, y, other, error, words) -> None:
    with pytest.raises(error, match=words):
        mix(x, y, 0.5, other=other)


def test_cutmix_needs_pictures() -> None:
    with pytest.raises(ValueError, match=r"x: expected shape \(n, c, h, w\)"):
        cutmix_data(torch.rand(6, 7), Y, 0.5)


# The loss


@pytest.mark.parametrize("per_example", [False, True])
@given(st.integers(1, 8), st.integers(2, 6), st.integers(0, 1000))
@settings(max_examples=50)
def test_loss_and_gradient_equal_those_with_soft_labels(
    per_example, n, classes, seed
) -> None:
    generator = seeded(seed)
    pred = torch.randn(n, classes, generator=generator, dtype=torch.float64)
    pred.requires_grad_()
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


class Three(nn.Module):
    def forward(self, anchor, positive, negative):
        return anchor.sum()


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        (FocalLoss, r"FocalLoss is a class; make one first, FocalLoss\(\)"),
        (Three(), "criterion: is called with two .*'negative'"),
        (lambda pred: pred, "criterion: is called with two arguments"),
        (3, "criterion: .*not a callable object"),
    ],
)
def test_criterions_that_need_other_arguments(criterion, words) -> None:
    with pytest.raises(TypeError, match=words):
        mixup_criterion(criterion, torch.rand(6, 5), Y, Y, 0.5)


def test_a_criterion_in_c_is_called() -> None:
    x = torch.rand(6, 5)
    found = mixup_criterion(F.cosine_similarity, x, x, -x, 0.75)
    assert torch.allclose(found, torch.full((6,), 0.5))


def test_an_error_inside_of_the_criterion_is_its_own() -> None:
    def broken(pred, y):
        raise TypeError("my own")

    with pytest.raises(TypeError, match=r"^my own$"):
        mixup_criterion(broken, torch.rand(6, 5), Y, Y, 0.5)


def test_lambdas_per_example_need_a_loss_per_example() -> None:
    with pytest.raises(ValueError, match=r'expected 6 values.*reduction="none"'):
        mixup_criterion(F.cross_entropy, torch.rand(6, 5), Y, Y, torch.rand(6))


def test_a_lam_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lam: .*got shape \(6, 1, 1, 1\)"):
        mixup_criterion(F.cross_entropy, torch.rand(6, 5), Y, Y, torch.rand(6, 1, 1, 1))


# Training

LOSS = nn.CrossEntropyLoss(reduction="none")


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, CLASSES)
    return nn.Sequential(*layers)


def sgd(net) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.01)


def weights(net) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@MIXES
@BOTH
def test_a_step_descends_on_the_mixed_loss_and_counts_weighted_hits(
    mix, per_example
) -> None:
    X, y = make_batch(40)
    mix = partial(mix, per_example=per_example)
    net, same = make_net(), make_net()
    torch.manual_seed(5)
    sums = train_batch_mixup(net, X, y, LOSS, sgd(net), CPU, False, 1.0, mix)
    torch.manual_seed(5)
    mixed, y_a, y_b, lam = mix(X, y, 1.0)
    pred = same(mixed)
    lam = torch.as_tensor(lam).expand(40)
    loss = (lam * LOSS(pred, y_a) + (1 - lam) * LOSS(pred, y_b)).sum()
    loss.backward()
    sgd(same).step()
    torch.testing.assert_close(weights(net), weights(same))
    hits = 0.0
    for guess, a, b, part in zip(pred.argmax(1), y_a, y_b, lam, strict=True):
        hits += part * (guess == a) + (1 - part) * (guess == b)
    torch.testing.assert_close(sums, (loss.detach(), hits.float()), check_dtype=False)


@MIXES
def test_a_step_with_alpha_0_is_the_plain_one(mix) -> None:
    X, y = make_batch(40)
    net, same = make_net(), make_net()
    sums = train_batch_mixup(net, X, y, LOSS, sgd(net), CPU, alpha=0, mix=mix)
    plain = train_batch_ch13(same, X, y, LOSS, sgd(same), CPU)
    torch.testing.assert_close(weights(net), weights(same))
    torch.testing.assert_close(sums[0], plain[0])
    assert sums[1] == plain[1]


def test_train_ch13_takes_it(capsys) -> None:
    calls = []

    def mix(*args):
        calls.append(args[2])
        return mixup_data(*args)

    data = [make_batch(8, seed) for seed in range(3)]
    loader = torch.utils.data.DataLoader(data, batch_size=None)
    net = make_net()
    step = partial(train_batch_mixup, alpha=0.3, mix=mix)
    history = train_ch13(net, loader, loader, LOSS, sgd(net), 2, CPU, train_batch=step)
    assert calls == [0.3] * 6 and history[-1].examples == 48


# Calibration


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
    parts = calibration_bins(pred[:100], y[:100]) + calibration_bins(
        pred[100:], y[100:]
    )
    torch.testing.assert_close(found, parts)
    error = sum(n / 300 * abs(h / n - c / n) for n, c, h in bins if n)
    assert expected_calibration_error(found) == pytest.approx(error)


def test_calibration_of_predictions_whose_error_is_known() -> None:
    y = torch.tensor([0, 0, 0, 1])
    right = torch.log(torch.tensor([[0.75, 0.25]])).expand(4, 2)
    assert expected_calibration_error(calibration_bins(right, y)) < 1e-6
    sure = torch.tensor([[50.0, 0.0]]).expand(4, 2)  # a quarter is wrong, for sure
    assert expected_calibration_error(calibration_bins(sure, y)) == pytest.approx(0.25)


# Focal loss and the head


@pytest.mark.parametrize("gamma", [0, 0.5, 2, 5])
def test_focal_loss_equals_a_loop(gamma) -> None:
    generator = seeded()
    pred = torch.randn(20, CLASSES, generator=generator, dtype=torch.float64)
    y = torch.randint(0, CLASSES, (20,), generator=generator)
    losses = []
    for row, label in zip(pred.tolist(), y.tolist(), strict=True):
        p = math.exp(row[label]) / sum(map(math.exp, row))
        losses.append(-((1 - p) ** gamma) * math.log(p))
    expected = torch.tensor(losses, dtype=torch.float64)
    torch.testing.assert_close(FocalLoss(gamma, "none")(pred, y), expected)
    torch.testing.assert_close(FocalLoss(gamma)(pred, y), expected.mean())
    torch.testing.assert_close(FocalLoss(gamma, "sum")(pred, y), expected.sum())
    pred.requires_grad_()
    assert torch.autograd.gradcheck(lambda pred: FocalLoss(gamma)(pred, y), pred)


def test_focal_loss_with_gamma_0_is_cross_entropy() -> None:
    pred = 5 * torch.randn(20, CLASSES)
    y = torch.randint(0, CLASSES, (20,))
    torch.testing.assert_close(FocalLoss(0)(pred, y), F.cross_entropy(pred, y))


@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0])
@pytest.mark.parametrize("size", [50.0, 1e4])
def test_focal_loss_of_sure_predictions_is_finite(gamma, size) -> None:
    pred = torch.tensor([[size, 0.0], [0.0, size]], requires_grad=True)
    y = torch.tensor([0, 0])  # surely right, and surely wrong
    l = FocalLoss(gamma, "none")(pred, y)
    l.sum().backward()
    assert l[0].item() < 1e-6 and l[1].item() == pytest.approx(size)
    assert pred.grad.isfinite().all()


def test_focal_loss_names_what_is_wrong() -> None:
    for gamma in (-1, math.nan, math.inf, X, None):
        with pytest.raises(ValueError, match="gamma: expected"):
            FocalLoss(gamma)
    with pytest.raises(ValueError, match=r"reduction: .*'all'"):
        FocalLoss(reduction="all")
    with pytest.raises(TypeError, match="y: expected class ind"):
        FocalLoss()(torch.rand(6, 5), torch.rand(6))


def make_head(**settings) -> tuple[AdditiveMarginHead, torch.Tensor]:
    torch.manual_seed(0)
    return AdditiveMarginHead(7, CLASSES, **settings), torch.randn(6, 7)


def test_head_equals_a_loop() -> None:
    head, features = make_head(scale=10.0, margin=0.2)
    pred = head(features, Y)
    for i, k in itertools.product(range(6), range(CLASSES)):
        a, b = features[i].double(), head.weight[k].double()
        cosine = (a @ b / a.norm() / b.norm()).item()
        expected = 10 * (cosine - 0.2 * (Y[i].item() == k))
        assert pred[i, k].item() == pytest.approx(expected, abs=1e-5)


def test_head_without_labels_has_no_margin() -> None:
    head, features = make_head()
    plain, _ = make_head(margin=0.0)
    torch.testing.assert_close(head(features), plain(features, Y))


def test_mixing_the_heads_outputs_mixes_the_margins() -> None:
    head, features = make_head()
    y_b = Y.roll(1)
    mixed = mixup_criterion(head, features, Y, y_b, 0.7)
    soft = 0.7 * F.one_hot(Y, CLASSES) + 0.3 * F.one_hot(y_b, CLASSES)
    expected = head(features) - head.scale * head.margin * soft
    torch.testing.assert_close(mixed, expected)


def test_head_names_what_is_wrong() -> None:
    head, features = make_head()
    with pytest.raises(TypeError, match="y: expected class ind"):
        head(features, Y.float())
    with pytest.raises(ValueError, match="y: has 5 labels for 6"):
        head(features, Y[:5])


def test_the_names_are_in_the_flat_namespace() -> None:
    import d2lext

    assert all(getattr(d2lext, name) is getattr(mixup, name) for name in mixup.__all__)
