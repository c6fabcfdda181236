"""Whole-batch transforms: torchvision's result for the same draws, its chances."""

import math

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF

from d2lext import batch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=24, h=32, w=32, dtype=torch.float32, seed=0):
    X = torch.randint(0, 256, (n, 3, h, w), dtype=torch.uint8, generator=seeded(seed))
    # Gray, black and white pictures are where colour formulas divide by zero.
    X[0], X[1], X[2] = 0, 255, X[2, :1]
    return X if dtype == torch.uint8 else batch.to_float(X)


def per_picture(params, i):
    return {k: v[i].item() for k, v in params.items()}


def flipped(x, aug, params):
    f = TF.vertical_flip if aug.axis == -2 else TF.horizontal_flip
    return f(x) if params["flip"] else x


def cropped(x, aug, params):
    left, top, right, bottom = aug.padding
    return TF.crop(TF.pad(x, [left, top, right, bottom]), **params, **size(aug))


def size(aug):
    return {"height": aug.size[0], "width": aug.size[1]}


def erased(x, aug, params):
    i, j, h, w = params.values()
    return TF.erase(x, i, j, h, w, torch.tensor(aug.value)[:, None, None])


EXACT = [
    (batch.RandomHorizontalFlip(), flipped),
    (batch.RandomVerticalFlip(0.3), flipped),
    (batch.RandomCrop(32, padding=4), cropped),
    (batch.RandomCrop((20, 31)), cropped),
    (batch.RandomCrop(8, (1, 2, 3, 4)), cropped),
    (batch.RandomCrop((40, 36), (2, 4)), cropped),
]


@pytest.mark.parametrize(("aug", "one"), EXACT)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_moved_pixels_are_bit_equal_to_torchvisions(aug, one, dtype):
    X = pictures(dtype=dtype)
    params = aug.draw(len(X), 32, 32, seeded())
    theirs = [one(x, aug, per_picture(params, i)) for i, x in enumerate(X)]
    Y = aug.apply(X, params)
    assert Y.dtype == dtype
    assert torch.equal(Y, torch.stack(theirs))


@pytest.mark.parametrize("value", [0, 0.25, (0.1, 0.2, 0.3)])
def test_erasing_is_bit_equal_to_torchvisions(value):
    X, aug = pictures(), batch.RandomErasing(0.8, value=value)
    params = aug.draw(len(X), 32, 32, seeded())
    theirs = [erased(x, aug, per_picture(params, i)) for i, x in enumerate(X)]
    assert torch.equal(aug.apply(X, params), torch.stack(theirs))


def test_random_noise_fills_the_erased_box_only():
    X, aug = pictures(), batch.RandomErasing(1, value="random")
    params = aug.draw(len(X), 32, 32, seeded())
    Y = aug.apply(X, params)
    for i, x in enumerate(X):
        top, left, h, w = (params[k][i] for k in ("top", "left", "height", "width"))
        inside = torch.zeros(32, 32, dtype=torch.bool)
        inside[top : top + h, left : left + w] = True
        assert torch.equal(Y[i][:, ~inside], x[:, ~inside])
        assert torch.equal(Y[i][:, inside], params["value"][i][:, inside])


def test_normalize_is_bit_equal_to_torchvisions():
    mean, std = (0.49, 0.48, 0.45), (0.2, 0.21, 0.22)
    X = pictures()
    assert torch.equal(batch.Normalize(mean, std)(X), TF.normalize(X, mean, std))


@pytest.mark.parametrize(
    "knobs",
    [
        {"brightness": 0.5},
        {"contrast": 0.9},
        {"saturation": 0.9},
        {"hue": 0.5},
        dict.fromkeys(["brightness", "contrast", "saturation", "hue"], 0.5),
    ],
)
def test_jitter_is_torchvisions_in_the_order_of_each_picture(knobs):
    X, aug = pictures(120, 16, 16), batch.ColorJitter(**knobs)
    params = aug.draw(len(X), 16, 16, seeded())
    names = ("brightness", "contrast", "saturation", "hue")
    theirs = []
    for i, x in enumerate(X):
        for name in (names[k] for k in params["order"][i]):
            if name in params:
                x = getattr(TF, f"adjust_{name}")(x, params[name][i].item())
        theirs.append(x)
    assert abs(aug.apply(X, params) - torch.stack(theirs)).max() < 1e-5


@settings(max_examples=25)
@given(
    h=st.integers(4, 40),
    w=st.integers(4, 40),
    # One pixel wide, torch 2.15 gives every row the values of the first.
    size=st.tuples(st.integers(1, 40), st.integers(2, 40)),
    seed=st.integers(0, 999),
)
def test_resized_crops_are_torchvisions_when_growing_and_when_shrinking(
    h, w, size, seed
):
    X = pictures(6, h, w)
    aug = batch.RandomResizedCrop(size, scale=(0.1, 1), ratio=(0.5, 2))
    params = aug.draw(len(X), h, w, seeded(seed))
    theirs = [
        TF.resized_crop(x, **per_picture(params, i), size=list(size), antialias=True)
        for i, x in enumerate(X)
    ]
    assert abs(aug.apply(X, params) - torch.stack(theirs)).max() < 1e-5


ALL = [
    batch.RandomHorizontalFlip(),
    batch.RandomVerticalFlip(),
    batch.RandomCrop(16, padding=4),
    batch.ColorJitter(0.5, 0.5, 0.5, 0.5),
    batch.RandomResizedCrop(16, scale=(0.1, 1), ratio=(0.5, 2)),
    batch.RandomErasing(value="random"),
]
CHAIN = batch.Compose([*ALL, batch.Normalize((0.5,) * 3, (0.25,) * 3)])


@settings(max_examples=25)
@given(
    aug=st.sampled_from([*ALL, CHAIN]),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
    n=st.integers(3, 40),
    seed=st.integers(0, 2**32),
)
def test_a_call_keeps_its_input_and_is_reproducible(aug, dtype, n, seed):
    X = pictures(n, 16, 16, dtype)
    before = X.clone()
    Y = aug(X, seeded(seed))
    assert torch.equal(X, before)
    assert Y.shape == X.shape
    assert torch.equal(aug(X, seeded(seed)), Y)
    torch.manual_seed(seed)
    as_seeded = aug(X)
    torch.manual_seed(seed)
    assert torch.equal(aug(X), as_seeded)


@pytest.mark.parametrize("aug", ALL)
def test_autocast_takes_no_digits_away(aug):
    X = pictures()
    plain = aug(X, seeded())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(aug(X, seeded()), plain)


@pytest.mark.parametrize("aug", ALL)
def test_nor_does_autocast_around_a_loader(aug):
    dataset = aug.dataset(*stored())
    torch.manual_seed(0)
    plain, _ = dataset.batch(range(24))
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dataset.batch(range(24))[0], plain)


@pytest.mark.parametrize("aug", ALL)
def test_every_picture_has_a_draw_of_its_own_and_every_call_new_ones(aug):
    same = torch.rand(3, 16, 16, generator=seeded()).expand(64, -1, -1, -1)
    generator = seeded()
    first, second = aug(same, generator), aug(same, generator)
    distinct = len({y.numpy().tobytes() for y in first})
    flips = isinstance(aug, batch.RandomHorizontalFlip)
    assert distinct == 2 if flips else distinct > 20
    assert not torch.equal(first, second)
    # Neighbours agree no more often than draws at random would.
    if flips:
        coins = aug.draw(4000, 16, 16, generator)["flip"].float()
        assert abs(torch.corrcoef(torch.stack([coins[1:], coins[:-1]]))[0, 1]) < 0.06


def test_flips_and_erasing_follow_p():
    for p in (0, 0.2, 1):
        flips = batch.RandomHorizontalFlip(p).draw(5000, 8, 8, seeded())["flip"]
        boxes = batch.RandomErasing(p).draw(5000, 32, 32, seeded())["height"]
        assert abs(flips.float().mean() - p) < 0.02
        assert abs((boxes > 0).float().mean() - p) < 0.02


def test_crops_fall_evenly():
    params = batch.RandomCrop(32, padding=4).draw(9000, 32, 32, seeded())
    for name in ("top", "left"):
        counts = params[name].bincount(minlength=9)
        assert len(counts) == 9
        assert counts.min() > 850 and counts.max() < 1150


def test_jitter_draws_ranges_and_all_orders_as_torchvision_does():
    params = batch.ColorJitter(0.4, 2.0, (0.9, 1.5), 0.1).draw(6000, 8, 8, seeded())
    ranges = {
        "brightness": (0.6, 1.4),
        "contrast": (0, 3),
        "saturation": (0.9, 1.5),
        "hue": (-0.1, 0.1),
    }
    for name, (low, high) in ranges.items():
        x = (params[name] - low) / (high - low)
        assert x.min() >= -1e-6 and x.max() <= 1 + 1e-6
        assert abs(x.mean() - 0.5) < 0.02 and abs(x.std() - math.sqrt(1 / 12)) < 0.02
    _, counts = params["order"].unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert counts.min() > 180


@pytest.mark.parametrize(
    ("h", "w", "scale", "ratio"),
    [
        (32, 32, (0.08, 1), (3 / 4, 4 / 3)),
        (32, 32, (0.1, 1), (0.25, 4)),
        (20, 40, (0.2, 0.7), (0.5, 1)),
    ],
)
def test_boxes_are_distributed_as_torchvisions(h, w, scale, ratio):
    ours = batch.RandomResizedCrop(8, scale, ratio).draw(4000, h, w, seeded())
    torch.manual_seed(0)
    one = torchvision.transforms.v2.RandomResizedCrop(8, scale, ratio)
    img = [torch.zeros(3, h, w)]
    make = getattr(one, "make_params", None) or one._get_params
    theirs = [make(img) for _ in range(4000)]
    for name, values in ours.items():
        a = values.double()
        b = torch.tensor([t[name] for t in theirs]).double()
        error = (a.var() / 4000 + b.var() / 4000).sqrt()
        assert abs(a.mean() - b.mean()) < 4 * error + 1e-9, name
        assert abs(a.std() - b.std()) < 0.08 * b.std() + 1e-9, name


def test_ratios_are_log_uniform():
    aug = batch.RandomResizedCrop(8, (0.04, 0.04), (0.25, 4))
    params = aug.draw(4000, 1000, 1000, seeded())
    x = (params["width"] / params["height"]).log() / math.log(4)
    assert abs(x.mean()) < 0.04 and abs(x.std() - math.sqrt(1 / 3)) < 0.02


@pytest.mark.parametrize(
    ("h", "w", "ratio", "box"),
    [
        (32, 32, (4, 5), (12, 0, 8, 32)),
        (32, 32, (0.2, 0.25), (0, 12, 32, 8)),
    ],
)
def test_a_box_that_never_fits_becomes_the_middle(h, w, ratio, box):
    params = batch.RandomResizedCrop(8, (1, 1), ratio).draw(5, h, w)
    assert all(tuple(p[i].item() for p in params.values()) == box for i in range(5))
    erase = batch.RandomErasing(1, (1, 1), (1, 1)).draw(5, h, w)
    assert not erase["height"].any()


def test_compose_follows_sizes_and_its_own_generator():
    aug = batch.Compose(
        [batch.RandomCrop(8), batch.RandomResizedCrop((20, 10)), batch.RandomCrop(9)],
        generator=seeded(3),
    )
    X = pictures()
    state = torch.get_rng_state()
    Y = aug(X)
    assert Y.shape == (24, 3, 9, 9) and aug.size == (9, 9)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(aug(X), Y)
    aug.generator.manual_seed(3)
    assert torch.equal(aug(X), Y)


def stored(n=100, h=32, w=32):
    X = torch.randint(0, 256, (n, h, w, 3), dtype=torch.uint8, generator=seeded())
    return X, torch.arange(n)


def loader(dataset, **how):
    return DataLoader(dataset, 32, **how)


def test_a_loader_hands_out_what_calling_the_transform_gives():
    X, y = stored()
    generator = seeded(1)
    dataset = batch.Compose([batch.RandomCrop(16), *ALL], generator).dataset(X, y)
    aug = dataset.transform
    batches = list(loader(dataset))
    assert [len(b[0]) for b in batches] == [32, 32, 32, 4]
    generator.manual_seed(1)
    planar = X.permute(0, 3, 1, 2)
    for (Xb, yb), part, labels in zip(
        batches, planar.split(32), y.split(32), strict=True
    ):
        assert Xb.dtype == torch.float32 and yb.dtype == torch.int64
        assert torch.equal(Xb, batch.to_float(aug(part)))
        assert torch.equal(yb, labels)


def test_shuffled_labels_stay_with_their_pictures_and_epochs_differ():
    X, y = stored()
    X[:, :, :, 0] = y.view(-1, 1, 1).byte()  # the red of each picture is its label
    dataset = batch.RandomHorizontalFlip().dataset(X, y)
    torch.manual_seed(0)
    epochs = [list(loader(dataset, shuffle=True)) for _ in range(2)]
    for Xb, yb in epochs[0]:
        assert torch.equal((Xb[:, 0] * 255).round().long().amax((1, 2)), yb)
    first, second = (torch.cat([yb for _, yb in e]) for e in epochs)
    assert torch.equal(first.sort()[0], y) and not torch.equal(first, second)
    whole = torch.arange(100).tolist()
    assert not torch.equal(dataset.batch(whole)[0], dataset.batch(whole)[0])


@pytest.mark.parametrize(
    "aug",
    [
        batch.RandomVerticalFlip(0.3),
        batch.Compose([]),
        batch.Compose([batch.Compose([batch.RandomHorizontalFlip()]), *ALL]),
    ],
)
def test_what_a_data_set_prepares_changes_no_picture_and_fits_in_memory(aug):
    X, y = stored()
    dataset = aug.dataset(X, y)
    i = torch.tensor([7, 7, 99, 0, 50])
    torch.manual_seed(2)
    Xb, yb = dataset.batch(i.tolist())
    torch.manual_seed(2)
    assert torch.equal(Xb, batch.to_float(aug(X[i].permute(0, 3, 1, 2))))
    assert torch.equal(yb, y[i])
    assert dataset.kept.untyped_storage().nbytes() <= 2.2 * X.numel()


@pytest.mark.parametrize("aug", [*ALL, batch.Compose(ALL, seeded())])
def test_a_transform_is_written_as_the_code_that_makes_it(aug):
    again = eval(repr(aug), vars(batch))
    assert repr(again) == repr(aug) and type(again) is type(aug)
    torch.manual_seed(0)
    params = again.draw(24, 32, 32)
    torch.manual_seed(0)
    if isinstance(aug, batch.Compose):
        aug.generator = None
    assert torch.equal(again.apply(pictures(), params), aug(pictures()))


def test_pixels_are_those_of_to_tensor_and_memory_is_one_copy():
    X, y = stored()
    dataset = batch.Compose([]).dataset(X.numpy(), y.numpy())
    Xb, yb = dataset[-1]
    theirs = torchvision.transforms.functional.to_tensor(X[-1].numpy())
    assert torch.equal(Xb, theirs) and yb == 99
    assert len(list(dataset)) == len(dataset) == 100
    with pytest.raises(IndexError):
        dataset[100]
    tensors = (t for t in vars(dataset).values() if isinstance(t, torch.Tensor))
    held = sum(t.untyped_storage().nbytes() for t in tensors) - 8 * len(y)
    assert held + X.numel() <= 2.2 * X.numel()


def test_a_generator_is_refused_in_workers():
    dataset = batch.Compose([], generator=seeded()).dataset(*stored())
    with pytest.raises(RuntimeError, match=r"generator:.*num_workers=0"):
        list(loader(dataset, num_workers=1))


X8 = torch.zeros(2, 3, 8, 8)
P8 = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
Y8 = torch.zeros(2, dtype=torch.int64)
FLIP = batch.RandomHorizontalFlip()
NORMALIZE = batch.Normalize((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: FLIP("cat"), TypeError, "X: expected a batch.*got str"),
        (lambda: FLIP(X8.int()), TypeError, "X: .*got torch.int32"),
        (lambda: FLIP(X8[0]), ValueError, r"X: .*got \(3, 8, 8\)"),
        (lambda: FLIP(X8.mT.movedim(1, 3)), ValueError, r"X: .*got \(2, 8, 8, 3\)"),
        (lambda: FLIP(X8[:0]), ValueError, r"X: .*got \(0, 3, 8, 8\)"),
        (lambda: batch.RandomHorizontalFlip(1.5), ValueError, "p: .*got 1.5"),
        (lambda: batch.RandomErasing(p="a"), ValueError, "p: .*got 'a'"),
        (lambda: batch.RandomHorizontalFlip(q=1), TypeError, "'q'"),
        (lambda: batch.RandomCrop(0), ValueError, "size: .*>= 1.*got 0"),
        (lambda: batch.RandomCrop((1, 2, 3)), ValueError, "size: "),
        (lambda: batch.RandomCrop(8, -1), ValueError, "padding: .*got -1"),
        (lambda: batch.RandomCrop(9)(X8), ValueError, r"size: .*8 x 8.*\(9, 9\)"),
        (lambda: batch.ColorJitter(-1), ValueError, "brightness: .*got -1"),
        (lambda: batch.ColorJitter(hue=0.6), ValueError, "hue: "),
        (lambda: batch.ColorJitter(contrast=(2, 1)), ValueError, "contrast: "),
        (lambda: batch.ColorJitter(contrast="a"), ValueError, "contrast: "),
        (lambda: batch.RandomResizedCrop(8, (1, 0)), ValueError, "scale: "),
        (lambda: batch.RandomResizedCrop(8, ratio=(0, 1)), ValueError, "ratio: "),
        (lambda: batch.RandomErasing(scale=(0, 2)), ValueError, "scale: "),
        (lambda: batch.RandomErasing(value="noise"), ValueError, "value .*noise"),
        (lambda: batch.Normalize((1, 2), (1, 1, 1)), ValueError, "mean: "),
        (lambda: batch.Normalize((0, 0, 0), (1, 0, 1)), ValueError, r"std: .*> 0"),
        (lambda: batch.ColorJitter(0.5)(X8 + 255), ValueError, "X: .*to 255; divide"),
        (lambda: batch.RandomResizedCrop(8)(X8 - 1), ValueError, "X: .*got -1 to -1"),
        (
            lambda: batch.Compose([FLIP, batch.ColorJitter(0.5)])(X8 - 1),
            ValueError,
            "X: .*normalize last",
        ),
        (
            lambda: batch.Compose([NORMALIZE, FLIP, batch.ColorJitter(0.5)]),
            ValueError,
            r"transforms\[2\]: ColorJitter.*Normalize behind",
        ),
        (lambda: batch.Compose(FLIP), TypeError, "transforms: .*RandomHor"),
        (
            lambda: batch.Compose([FLIP, torchvision.transforms.ToTensor()]),
            TypeError,
            r"transforms\[1\]: .*ToTensor of torchvision",
        ),
        (lambda: batch.Compose([], generator=3), TypeError, "generator: .*got int"),
        (lambda: FLIP.dataset(X8, Y8), ValueError, "X: .*got torch.float32"),
        (lambda: FLIP.dataset(P8, Y8[:1]), ValueError, "y: expected 2 labels"),
        (lambda: FLIP.dataset(P8, Y8.float()), ValueError, "y: .*float32"),
        (lambda: FLIP.dataset(P8, Y8, "nowhere"), ValueError, "device: .*'nowhere'"),
        (lambda: batch.RandomCrop(9).dataset(P8, Y8), ValueError, "size: "),
    ],
)
def test_errors_name_the_argument(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_what_only_moves_pixels_takes_normalized_pictures() -> None:
    X = NORMALIZE(pictures())
    aug = batch.Compose([FLIP, batch.RandomCrop(32, 4), batch.RandomErasing()])
    assert aug(X).min() < -1


def test_per_picture_is_torchvisions_with_the_drawn_seed() -> None:
    X = pictures(8, dtype=torch.uint8)
    transform = v2.TrivialAugmentWide()
    aug = batch.PerImage(transform)
    params = aug.draw(len(X), 32, 32)
    Y = aug.apply(X, params)
    for x, y, seed in zip(X, Y, params["seed"].tolist(), strict=True):
        torch.manual_seed(seed)
        assert torch.equal(transform(x), y)


def test_per_picture_leaves_the_callers_draws_alone() -> None:
    X = pictures(8, dtype=torch.uint8)
    aug = batch.PerImage(v2.TrivialAugmentWide())
    params = aug.draw(len(X), 32, 32)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    aug.apply(X, params)
    assert torch.equal(torch.rand(3), expected)


def test_per_picture_refuses_what_it_cannot_use() -> None:
    X = pictures(8, dtype=torch.uint8)
    for wrong in (3, v2.RandAugment):
        with pytest.raises(TypeError, match=r"transform: .*RandAugment"):
            batch.PerImage(wrong)
    with pytest.raises(ValueError, match=r"expected images of shape \(3, 32, 32\)"):
        batch.PerImage(v2.Resize(8))(X)
