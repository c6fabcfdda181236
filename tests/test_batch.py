"""Whole-batch transforms: torchvision's result for the same draws, its chances."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, random_split
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from d2lext import augment, batch
from tests.common import other_defaults, refused, rows, seeded

ORDER = ("brightness", "contrast", "saturation", "hue")


def images(n=24, h=32, w=32, channels=3, dtype=torch.float32):
    X = torch.randint(
        0, 256, (n, channels, h, w), dtype=torch.uint8, generator=seeded()
    )
    # Gray, black and white images are where colour formulas divide by zero.
    X[0], X[1], X[2] = 0, 255, X[2, :1]
    return X if dtype == torch.uint8 else batch.to_float(X).to(dtype)


def compare(ours, one, X, atol=0):
    """Check that `ours` does to each image what `one` does, called with its draws."""
    params = ours.draw(len(X), *X.shape[2:], seeded())
    rows = [{k: v[i].tolist() for k, v in params.items()} for i in range(len(X))]
    Y = torch.stack([one(x, **row) for x, row in zip(X, rows, strict=True)])
    torch.testing.assert_close(ours.apply(X, params), Y, atol=atol, rtol=0)


def flipped(flip_one):
    return lambda x, flip: flip_one(x) if flip else x


def cut(h, w, *pad):
    return lambda x, top, left: TF.crop(TF.pad(x, *pad) if pad else x, top, left, h, w)


def blanked(*value):
    v = torch.tensor(value).view(-1, 1, 1)
    return lambda x, **box: TF.erase(x, *box.values(), v)


def stretched(*size):
    return lambda x, **box: TF.resized_crop(x, **box, size=size) / 255


def moved(move, how, fill, **more):
    more |= {"interpolation": v2.InterpolationMode(how), "fill": fill}
    return lambda x, **row: move(x, **row, **more)


def turn(x, angle, translate, scale, shear, **how):
    return TF.rotate(x, angle, **how)


def jittered(x, order, **factors):
    for name in (ORDER[k] for k in order):
        if name in factors:
            x = getattr(TF, f"adjust_{name}")(x, factors[name])
    return x


def operated(**how):
    theirs = v2.RandAugment(**how)
    names = list(theirs._AUGMENTATION_SPACE)
    how = {"interpolation": theirs.interpolation, "fill": theirs._fill}

    def one(x, op, magnitude):
        for k, m in zip(op, magnitude, strict=True):
            x = theirs._apply_image_or_video_transform(x, names[k], m, **how)
        return x

    return one


DTYPES = {"u": torch.uint8, "f": torch.float32, "h": torch.float16}
MEAN, STD = [0.49, 0.48, 0.45], [0.2, 0.21, 0.22]
RGB = (1, 0, 0.5)
# Channels, dtypes, count and sides of images; a transform; and what torchvision's does
# to an image with what was drawn for it, bit for bit; ColorJitter, nearly.
SAME = """
1234 ufh 24 32 32 | RandomHorizontalFlip()           | flipped(TF.horizontal_flip)
1234 ufh 24 32 32 | RandomVerticalFlip(0.3)          | flipped(TF.vertical_flip)
1 uf 24 32 32     | RandomCrop((20, 31))             | cut(20, 31)
3 uf 24 32 32     | RandomCrop(32, 4)                | cut(32, 32, [4])
2 uf 24 32 32     | RandomCrop(8, (1, 2, 3, 4))      | cut(8, 8, [1, 2, 3, 4])
4 uf 24 32 32     | RandomCrop((40, 36), (2, 4))     | cut(40, 36, [2, 4])
3 uf 24 32 32     | RandomCrop(20, (-3, 2, 1, -4))   | cut(20, 20, [-3, 2, 1, -4])
3 uf 24 32 32     | RandomCrop((50, 20), 1, True, 3) | cut(50, 20, [1, 17], 3)
3 uf 24 32 32     | RandomCrop(34, 2, fill=RGB)      | cut(34, 34, [2], [*RGB])
3 uf 24 32 32 | RandomCrop(30, (4, 1), 0, 0, "edge") | cut(30, 30, [4, 1], 0, "edge")
3 uf 24 32 32 | RandomCrop(30, 4, 0, 0, "reflect")   | cut(30, 30, [4], 0, "reflect")
3 uf 24 32 32 | RandomCrop(30, 4, 0, 0, "symmetric") | cut(30, 30, [4], 0, "symmetric")
13 f 24 32 32     | RandomErasing(0.8)               | blanked(0)
13 f 24 80 80     | RandomErasing(0.8, value=[0.25]) | blanked(0.25)
3 f 24 32 32      | RandomErasing(0.8, value=RGB)    | blanked(*RGB)
3 f 24 80 80      | RandomErasing(0.8, value=RGB)    | blanked(*RGB)
1234 f 24 32 32   | Normalize([0.5], [2])        | lambda x: TF.normalize(x, [0.5], [2])
3 f 24 32 32      | Normalize(MEAN, STD)         | lambda x: TF.normalize(x, MEAN, STD)
13 f 120 16 16    | ColorJitter(brightness=0.5)      | jittered
13 f 120 16 16    | ColorJitter(hue=0.5)             | jittered
13 f 120 16 16    | ColorJitter(contrast=0.9, hue=0.1) | jittered
13 f 240 16 16    | ColorJitter(0.5, 0.5, 0.5, 0.5)  | jittered
13 f 11 200 200   | ColorJitter(0.5, 0.5, 0.5, 0.5)  | jittered
13 f 9 8 8        | ColorJitter()                    | jittered
13 u 300 32 20    | TrivialAugmentWide()             | operated()
13 u 300 32 20    | TrivialAugmentWide(9, "bilinear", 3) | operated(**BY_3)
13 u 300 32 20    | RandAugment()                    | operated()
13 u 300 32 20    | RandAugment(3, 20, fill=0)       | operated(fill=0)
3 uf 24 32 32     | RandomAffine(*MOVES, N, None)    | moved(TF.affine, N, None)
3 uf 24 32 32     | RandomAffine(*MOVES, N)          | moved(TF.affine, N, 0)
3 uf 24 32 32     | RandomAffine(*MOVES, N, RGB)     | moved(TF.affine, N, [*RGB])
3 uf 24 32 32     | RandomAffine(*MOVES, B, None)    | moved(TF.affine, B, None)
3 uf 24 32 32     | RandomAffine(*MOVES, B)          | moved(TF.affine, B, 0)
3 uf 24 32 32     | RandomAffine(*MOVES, B, RGB)     | moved(TF.affine, B, [*RGB])
3 uf 24 32 32     | RandomRotation(170, N, center=C) | moved(turn, N, 0, center=C)
3 uf 24 32 32     | RandomRotation(170, B, fill=RGB) | moved(turn, B, [*RGB])
3 u 3 300 300     | RandomRotation(30)               | moved(turn, N, 0)
3 u 9 32 32 | PerImage(ONE) | lambda x, seed: torch.manual_seed(seed) and ONE(x)
3 u 3 56 56       | RandomResizedCrop(56)            | stretched(56, 56)
3 u 3 300 300     | RandomResizedCrop(300)           | stretched(300, 300)
"""
N, B = "nearest", "bilinear"
BY_3 = {"interpolation": v2.InterpolationMode(B), "fill": 3}
MOVES = (30, (0.1, 0.2), (0.8, 1.2), (-9, 9, -5, 5))
C, ONE = [3, 9], v2.TrivialAugmentWide()


@rows("kinds ours theirs", SAME)
def test_a_batch_is_torchvisions_image_by_image(kinds, ours, theirs):
    atol = 1e-5 if theirs == "jittered" or theirs.startswith("stretched") else 0
    ours, theirs = eval(ours, vars(batch) | globals()), eval(theirs)
    channels, dtypes, *shape = kinds.split()
    for c, dtype in itertools.product(channels, dtypes):
        X = images(*map(int, shape), int(c), DTYPES[dtype])
        X[40:] = X[40:] // 2 + 50 if dtype == "u" else X[40:] / 2 + 0.2  # off the ends
        compare(ours, theirs, X, atol)
        if isinstance(ours, batch.RandomCrop):  # cut in another way with gradients
            compare(ours, theirs, X.float().requires_grad_())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("how", ["bilinear", "bicubic", "nearest", "nearest-exact"])
@settings(max_examples=20)
@given(
    h=st.integers(4, 90),
    w=st.integers(4, 40),
    # One pixel wide, torch 2.15 gives every row the values of the first.
    size=st.tuples(st.integers(1, 70), st.integers(2, 40)),
)
def test_resized_crops_are_torchvisions_of_all_sizes(h, w, size, how, antialias):
    ours = batch.RandomResizedCrop(size, (0.1, 1), (0.5, 2), how, antialias)
    options = {"size": [*size], "antialias": antialias}
    options["interpolation"] = v2.InterpolationMode(how)
    X = images(6, h, w, 2 + antialias)
    compare(ours, lambda x, **box: TF.resized_crop(x, **box, **options), X, 1e-5)


def test_erasing_has_gradients_at_every_size():
    for side in (8, 64):
        X = torch.rand(2, 3, side, side, requires_grad=True)
        Y = batch.RandomErasing(1)(X, seeded())
        Y.sum().backward()
        assert torch.equal(X.grad, (Y != 0).float()) and 0 < X.grad.mean() < 1


def test_jitter_has_gradients():
    X, ours = images(40, 8, 8) * 0.8 + 0.1, batch.ColorJitter(0.5, 0.5, 0.5)
    leaves = [X.clone().requires_grad_() for _ in range(2)]
    params = ours.draw(40, 8, 8, seeded())
    ours.apply(leaves[0], params).square().sum().backward()
    for i, x in enumerate(leaves[1]):
        row = {k: v[i].tolist() for k, v in params.items()}
        jittered(x, **row).square().sum().backward()
    assert abs(leaves[0].grad - leaves[1].grad).max() < 1e-4
    X = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=seeded())
    f = torch.tensor([0.1, -0.3], dtype=torch.float64).view(-1, 1, 1, 1)
    assert torch.autograd.gradcheck(augment._hue, (X.requires_grad_(), f), eps=1e-7)


def assert_alike(ours, theirs, what):
    """Two samples (n, ...) agree in mean and spread, as far as n can tell."""
    a, b = (torch.as_tensor(x).double() for x in (ours, theirs))
    error = 5 * b.std(0) / len(b) ** 0.5 + 1e-9
    assert (abs(a.mean(0) - b.mean(0)) < error).all(), what
    assert (abs(a.std(0) - b.std(0)) < error).all(), what


@pytest.mark.parametrize("name", ["TrivialAugmentWide", "RandAugment"])
def test_policies_draw_what_torchvisions_draw(name, monkeypatch):
    ours, theirs, seen = getattr(batch, name)(), getattr(v2, name)(), []
    params = ours.draw(4000, 32, 48, seeded())
    monkeypatch.setattr(
        theirs,
        "_apply_image_or_video_transform",
        lambda x, name, m, **how: seen.append((name, round(m, 4))) or x,
    )
    torch.manual_seed(0)
    for _ in range(4000):
        theirs(torch.zeros(3, 32, 48))
    names = list(theirs._AUGMENTATION_SPACE)
    pairs = zip(params["op"].flatten(), params["magnitude"].flatten(), strict=True)
    drawn = [(names[op], round(m.item(), 4)) for op, m in pairs]
    possible = [{(k, abs(m)) for k, m in values} for values in (drawn, seen)]
    assert possible[0] == possible[1] and len(drawn) == len(seen)
    for k in names:
        a, b = ([m for n, m in s if n == k] for s in (drawn, seen))
        assert abs(len(a) - len(b)) < 5 * len(b) ** 0.5
        assert_alike(a, b, k)


@pytest.mark.parametrize(
    ("name", "arguments", "sides"),
    [
        ("RandomCrop", (32, 4), (32, 32)),
        ("ColorJitter", (0.4, 2.0, (0.9, 1.5), 0.1), (8, 8)),
        ("RandomAffine", (30, (0.1, 0.2), (0.8, 1.2), (-9, 9, -5, 5)), (40, 30)),
        ("RandomResizedCrop", (8, (0.08, 1), (3 / 4, 4 / 3)), (32, 32)),
        ("RandomResizedCrop", (8, (0.1, 1), (0.25, 4)), (32, 32)),
        ("RandomResizedCrop", (8, (0.2, 0.7), (0.5, 1)), (20, 40)),
        ("RandomResizedCrop", (8, (0.04, 0.04), (0.25, 4)), (1000, 1000)),
        ("RandomResizedCrop", (8, (1, 1), (4, 5)), (32, 32)),  # which never fit
        ("RandomResizedCrop", (8, (1, 1), (0.2, 0.25)), (32, 32)),
    ],
)
def test_draws_are_distributed_as_torchvisions(name, arguments, sides):
    ours = getattr(batch, name)(*arguments).draw(4000, *sides, seeded())
    torch.manual_seed(0)
    one, img = getattr(v2, name)(*arguments), torch.zeros(3, 1, 1).expand(3, *sides)
    draw = getattr(one, "make_params", None) or one._get_params
    theirs = [draw([img]) for _ in range(4000)]
    named = {k: f"{k}_factor" for k in ORDER} | {"order": "fn_idx"}
    for key, a in ours.items():
        b = torch.stack([torch.as_tensor(t[named.get(key, key)]) for t in theirs])
        assert_alike(a, b, key)
        if a.is_floating_point() or name == "RandomCrop":
            a, b = (x.double() for x in (a, b))
            assert (abs(a.amax(0) - b.amax(0)) < 0.05 * b.std(0) + 1e-9).all(), key
    if name == "ColorJitter":
        _, counts = ours["order"].unique(dim=0, return_counts=True)
        assert len(counts) == 24 and counts.min() > 120


POLICIES = [batch.TrivialAugmentWide(), batch.RandAugment(fill=0.5)]  # of uint8 alone
ALL = [
    *POLICIES,
    batch.RandomHorizontalFlip(),
    batch.RandomVerticalFlip(),
    batch.RandomCrop(16, padding=4),
    batch.ColorJitter(0.5, 0.5, 0.5, 0.5),
    batch.RandomResizedCrop(16, scale=(0.1, 1), ratio=(0.5, 2)),
    batch.RandomErasing(value=0.5),
    batch.RandomAffine(30, (0.1, 0.1), (0.8, 1.2), 10, "bilinear"),
    batch.RandomRotation(40, fill=None),
    batch.RandomApply([batch.RandomVerticalFlip(), batch.ColorJitter(0.5, hue=0.1)]),
    batch.RandomChoice([batch.RandomRotation(9), batch.RandomErasing(1)], p=[1, 3]),
]
LAST = batch.Normalize((0.5,) * 3, (0.25,) * 3)
CHAIN = batch.Compose([*ALL, LAST])


@settings(max_examples=40)
@given(
    aug=st.sampled_from([*ALL, CHAIN, batch.Compose([]), LAST]),
    dtype=st.sampled_from([torch.uint8, torch.float32, torch.float16, torch.bfloat16]),
    n=st.integers(3, 40),
    seed=st.integers(0, 2**32),
)
def test_a_call_returns_a_new_batch_and_is_reproducible(aug, dtype, n, seed):
    bytes_only = aug in POLICIES or aug is CHAIN
    X = images(n, 16, 16, dtype=torch.uint8 if bytes_only else dtype)
    before = X.clone()
    Y = aug(X, seeded(seed))
    assert torch.equal(X, before) and Y.shape == X.shape
    assert Y.untyped_storage().data_ptr() != X.untyped_storage().data_ptr()
    assert Y.dtype in (X.dtype, torch.float32)
    assert torch.equal(aug(X, seeded(seed)), Y)
    torch.manual_seed(seed)
    as_seeded = aug(X)
    torch.manual_seed(seed)
    assert torch.equal(aug(tv_tensors.Image(X)), as_seeded)
    assert type(aug(tv_tensors.Image(X))) is tv_tensors.Image


@pytest.mark.parametrize("aug", ALL)
def test_surroundings_change_nothing(aug, monkeypatch):
    """Autocast, other defaults, compilation, being written as code, or in parts."""
    X, data = images(24, 16, 16, dtype=torch.uint8), aug.dataset(*stored(24, 16, 16))
    given = X if aug in POLICIES else batch.to_float(X)

    def results():
        torch.manual_seed(0)
        return [aug(given), aug(X, seeded()), data.batch(range(24))[0]]

    plain = results()
    assert not torch.equal(aug(given), plain[0])  # a call draws anew
    again = eval(repr(aug), vars(batch))
    assert repr(again) == repr(aug) and torch.equal(again(X, seeded()), plain[1])
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, results(), plain))
    with monkeypatch.context() as patch:
        patch.setattr(augment, "AT_ONCE", 5 * 16 * 16)
        torch.testing.assert_close(results(), plain, rtol=0, atol=1e-6)
        torch.manual_seed(0)
        in_parts = torch.compile(lambda X: aug(X), fullgraph=True, backend="eager")
        assert abs(in_parts(given).float() - plain[0].float()).max() < 1e-6
    with other_defaults():
        assert all(map(torch.equal, results(), plain))
    torch._dynamo.reset()
    compiled = torch.compile(lambda X: aug(X), fullgraph=True, backend="eager")
    torch.manual_seed(0)
    assert abs(compiled(given).float() - plain[0].float()).max() < 1e-6


@pytest.mark.parametrize("aug", ALL)
def test_nothing_waits_for_the_device(aug):
    """Numbers cannot be read from the meta device."""
    data = batch.Compose([aug, LAST]).dataset(*stored(24), device="meta")
    assert data.batch(range(8))[0].device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("aug", [*ALL, CHAIN])
def test_nothing_waits_for_cuda(aug):
    X, data = images(dtype=torch.uint8).cuda(), aug.dataset(*stored(24), device="cuda")
    params = aug.draw(len(X), 32, 32, seeded())
    first = aug.apply(X, params).cpu().float()
    assert abs(first - aug.apply(X.cpu(), params).float()).max() < 1e-4
    try:
        torch.cuda.set_sync_debug_mode("error")
        aug.apply(X, params), data.batch(range(24))
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_flips_erasing_and_choices_follow_p():
    black = torch.zeros(2000, 3, 4, 4)
    painted = batch.RandomErasing(1, (0.3, 0.3), (1, 1), 1)
    for p in (0, 0.2, 1):
        flips = batch.RandomHorizontalFlip(p).draw(5000, 8, 8, seeded())["flip"]
        boxes = batch.RandomErasing(p).draw(5000, 32, 32, seeded())["height"]
        paint = v2.RandomErasing(p, (0.3, 0.3), (1, 1), 1)
        some, single = (
            aug(black, seeded()).flatten(1).any(1)
            for aug in (batch.RandomApply([painted], p), batch.PerImage(paint))
        )
        for happened in (flips, boxes > 0, some, single):
            assert abs(happened.float().mean() - p) < 0.025
            both = happened[1:] & happened[:-1]  # neighbours draw for themselves
            assert abs(both.float().mean() - p**2) < 0.025
    never = batch.RandomErasing(1, (1, 1), (1, 1))  # the box does not fit
    assert not never.draw(5, 32, 32)["height"].any()
    Y = batch.RandomChoice([LAST, painted], p=[1, 3])(black, seeded())
    assert abs((Y[:, 0].amax((1, 2)) == 1).float().mean() - 0.75) < 0.03
    assert ((Y == -2).flatten(1).all(1) | (Y.flatten(1).amax(1) == 1)).all()


def test_compose_follows_sizes_and_its_own_generator():
    inner = batch.Compose([batch.RandomResizedCrop((20, 10)), batch.RandomCrop(9)])
    # What only moves pixels takes normalized ones.
    chain = [LAST, batch.RandomCrop(8), inner, FLIP, batch.RandomErasing()]
    chain.append(batch.PerImage(v2.RandomHorizontalFlip()))
    aug = batch.Compose(chain, generator=seeded(3))
    X, state = images(), torch.get_rng_state()
    Y = aug(X)
    assert Y.shape == (24, 3, 9, 9) and aug.size == (9, 9) and Y.min() < -1
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(aug(X), Y)
    aug.generator.manual_seed(3)
    assert torch.equal(aug(X), Y)


def stored(n=100, h=32, w=32):
    X = torch.randint(0, 256, (n, h, w, 3), dtype=torch.uint8, generator=seeded())
    return X, torch.arange(n)


def test_labels_stay_with_their_images_in_every_kind_of_loader():
    X, y = stored()
    X[:, :, :, 0] = y.view(-1, 1, 1).byte()  # the red of each image is its label
    dataset = batch.RandomHorizontalFlip().dataset(X, y)
    torch.manual_seed(0)
    halves = random_split(dataset, [60, 40])
    parts = [dataset, dataset, *halves, ConcatDataset(halves)]
    epochs = [list(DataLoader(part, 32, shuffle=True)) for part in parts]
    epochs.append(list(DataLoader(dataset, 32, shuffle=True, num_workers=1)))
    for Xb, yb in (pair for epoch in epochs for pair in epoch):
        assert torch.equal((Xb[:, 0] * 255).round().long().amax((1, 2)), yb)
    seen = [torch.cat([yb for _, yb in e]) for e in epochs]
    assert not torch.equal(seen[0], seen[1])
    for order in (seen[0], torch.cat(seen[2:4]), *seen[4:]):
        assert torch.equal(order.sort()[0], y)
    whole = range(100)
    assert not torch.equal(dataset.batch(whole)[0], dataset.batch(whole)[0])


@pytest.mark.parametrize(
    "aug",
    [
        batch.RandomVerticalFlip(0.3),
        batch.Compose([]),
        batch.Compose([batch.RandomCrop(16), batch.Compose(ALL)], seeded()),
    ],
)
def test_a_data_set_gives_what_calling_the_transform_gives_and_fits_in_memory(aug):
    (X, y), i = stored(), torch.tensor([7, 7, 99, 0, 50])
    dataset, own = aug.dataset(X.numpy(), y.int().numpy()), aug.generator
    (own or torch.default_generator).manual_seed(2)
    Xb, yb = dataset.batch(i.tolist())
    assert Xb.dtype == torch.float32 and yb.dtype == torch.int64
    (own or torch.default_generator).manual_seed(2)
    assert torch.equal(Xb, batch.to_float(aug(X[i].permute(0, 3, 1, 2))))
    assert torch.equal(yb, y[i])
    assert dataset.kept.untyped_storage().nbytes() <= 2.2 * X.numel()
    if own:
        own.manual_seed(2)
        (loaded,) = DataLoader(dataset, 5, sampler=i)
        assert torch.equal(loaded[0], Xb) and torch.equal(loaded[1], yb)


def test_a_data_set_has_pixels_and_labels_of_all_kinds():
    X, _ = stored()
    soft = torch.rand(100, 10)
    dataset = batch.Compose([]).dataset(X[..., 0].numpy(), soft.numpy())
    assert dataset.kept.untyped_storage().nbytes() == X[..., 0].numel()
    x, label = dataset[-1]
    assert torch.equal(x[0], X[-1, ..., 0] / 255) and torch.equal(label, soft[-1])
    assert len(list(dataset)) == len(dataset) == 100


X8 = torch.zeros(2, 3, 8, 8)
P8 = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
Y8 = torch.zeros(2, dtype=torch.int64)
FLIP, JITTER = batch.RandomHorizontalFlip(), batch.ColorJitter(0.5)
OWN, MIX = batch.Compose([FLIP], seeded()), batch.RandomApply([LAST])
REFUSED = r"""
FLIP("cat")                                           | X: expected a batch
JITTER(X8[:, :2])                                     | X: .*1 or 3, .*PerImage
Compose([FLIP, JITTER])(X8[:, :2])                    | X: .*1 or 3, .*PerImage
RandomApply([JITTER])(X8[:, :2])                      | X: .*1 or 3, .*PerImage
Compose([RandomErasing(), RandomApply([RandAugment()])]) | transforms.1.: .*needs uint8
Compose([FLIP, JITTER])(X8 - 1)                       | X: .*divide.*normalize last
RandomHorizontalFlip(1.5)                             | p: .*from 0 to 1, got 1.5
RandomErasing(p="a")                                  | p: .*from 0 to 1, got 'a'
RandomApply([FLIP], 2)                                | p: .*from 0 to 1, got 2
RandomChoice([FLIP, JITTER], [1])                     | p: expected 2 finite numbers
Compose([FLIP, Compose([JITTER]), RandAugment()])     | transforms.2.: .*needs uint8
RandomCrop(0)                                         | size: .*>= 1
RandomCrop(9)(X8)                                     | size: .*fits into 8 x 8
RandomCrop(9).dataset(P8, Y8)                         | size: .*fits into 8 x 8
RandomResizedCrop("a")                                | size: .*got 'a'
RandomCrop(8, 0.5)                                    | padding: .*got 0.5
RandomCrop(8, padding_mode="wrap")                    | padding_mode: .*got 'wrap'
RandomCrop(8, fill="black")                           | fill: .*got 'black'
RandomCrop(8, 1, fill=(1, 2))(X8)                     | fill: expected 1 or 3 numbers
RandomResizedCrop(8, interpolation="box")             | interpolation: .*got 'box'
RandomRotation(9, "bicubic")                          | interpolation: .*'bicubic'
RandomRotation(-1)                                    | degrees
RandomAffine((0, torch.nan))                          | degrees: .*finite
RandomRotation(9, expand=True)                        | expand: .*PerImage
RandomErasing(scale=(0, 2))                           | scale: .*from 0 to 1
RandomResizedCrop(8, (1, 0))                          | scale: .*min, max
RandomErasing(ratio=(0, 1))                           | ratio: .*from 1e-06
RandomResizedCrop(8, ratio=(0, 1))                    | ratio: .*from 1e-06
RandAugment(2, 31)                                    | magnitude: .*from 0 to 30
RandAugment(-1)                                       | num_ops: .*>= 0
TrivialAugmentWide(1)                                 | num_magnitude_bins: .*>= 2
RandomErasing(value="random")                         | value: .*PerImage.*'random'
RandAugment()(X8)                                     | X: .*RandAugment .*PerImage
RandomErasing(value=(1, 2))(X8)                       | value: expected 1 or 3
ColorJitter(-1)                                       | brightness .*non negative
ColorJitter(saturation=torch.inf)                     | saturation: .*inf
Normalize((1, torch.nan), (1, 1))                     | mean: .*nan
Normalize((0, 0), (1,))(X8)                           | mean: .*3 channels
Normalize((0, 0, 0), (1, 0, 1))                       | std: .*> 0
[*DataLoader(OWN.dataset(P8, Y8), num_workers=1)]     | generator: .*num_workers=0
FLIP(X8, generator=3)                                 | generator: .*got int
Compose([], generator=3)                              | generator: .*got int
RandomApply([OWN])                                    | transforms.0.: has a generator
Compose([v2.ToImage()])                               | transforms.0.: .*PerImage
Compose([Compose([MIX]), JITTER])                     | transforms.1.: ColorJitter needs
RandomApply([])                                       | transforms: expected 1, got 0
RandomChoice([RandomCrop(8), RandomCrop(7)])(X8)      | transforms: .*one size
FLIP.dataset(X8, Y8)                                  | X: expected uint8 images
FLIP.dataset(P8, Y8[:1])                              | y: expected 2 labels
PerImage(3)                                           | transform: .*got int
PerImage(v2.Resize(4))(X8)                            | transform: .*3, 4, 4
"""
test_errors_name_the_argument = refused(vars(batch) | globals(), REFUSED)
