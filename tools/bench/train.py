"""Compare the speed of training with that of the chapter's own loop.

The chapter's loop: float32, channels first, a number fetched from the device in every
step, Adam as torch makes it by default, PIL images augmented one at a time (in this
process, and in two workers; the better counts). Ours: `train_batch_ch13` and
`train_epochs`, whole batches, Adam fused. Rounds alternate, and the median counts.
Prints examples a second and the ratios, for a training step of ResNet-18 and for whole
epochs of the small net on random images of CIFAR-10's size. Then what mixing adds to
a step of ResNet-18: `mixup_data`, `cutmix_data`, and the loss taken twice.
"""

import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from d2lext import batch
from d2lext.cifar10 import ImageDataset
from d2lext.compare import resnet18, small_net
from d2lext.mixup import cutmix_data, mixup_criterion, mixup_data
from d2lext.multi_gpu import bf16_is_fast, train_batch_ch13, train_epochs, try_all_gpus

DEVICE = try_all_gpus()[0]
STEP_BATCH = 128
EPOCH_BATCH = 128
N = 2_048
ROUNDS = 5
LOSS = nn.CrossEntropyLoss(reduction="none")


def book_step(net, X, y, trainer) -> tuple[float, float]:
    """One step of the chapter, which fetches its sums as `d2l.accuracy` does."""
    X, y = X.to(DEVICE), y.to(DEVICE)
    net.train()
    trainer.zero_grad()
    pred = net(X)
    l = LOSS(pred, y)
    l.sum().backward()
    trainer.step()
    return l.sum().item(), float((pred.argmax(1) == y).sum())


def step_runners() -> dict[str, Callable[[], float]]:
    """Each returns the examples per second of one step of ResNet-18."""
    X, y = torch.rand(STEP_BATCH, 3, 32, 32), torch.randint(0, 10, (STEP_BATCH,))
    book, ours = (resnet18(10, 3).to(DEVICE) for _ in range(2))
    ours = ours.to(memory_format=torch.channels_last)
    book_trainer = torch.optim.Adam(book.parameters())
    our_trainer = torch.optim.Adam(ours.parameters(), fused=True)

    def timed(step) -> float:
        start = time.perf_counter()
        float(step()[0])  # waits for the device
        return STEP_BATCH / (time.perf_counter() - start)

    return {
        "the chapter's step": lambda: timed(
            lambda: book_step(book, X, y, book_trainer)
        ),
        "ours": lambda: timed(
            lambda: train_batch_ch13(ours, X, y, LOSS, our_trainer, [DEVICE])
        ),
    }


def epoch_runners() -> dict[str, Callable[[], float]]:
    """Each returns the examples per second of one epoch of the small net."""
    X = torch.randint(0, 256, (N, 32, 32, 3), dtype=torch.uint8)
    y = torch.randint(0, 10, (N,))
    one_by_one = transforms.Compose(
        [
            transforms.RandomHorizontalFlip(),
            transforms.RandomCrop(32, padding=4),
            transforms.ToTensor(),
        ]
    )
    whole = batch.Compose([batch.RandomHorizontalFlip(), batch.RandomCrop(32, 4)])
    images = X.permute(0, 3, 1, 2)
    book, ours = (small_net(images).to(DEVICE) for _ in range(2))
    ours = ours.to(memory_format=torch.channels_last)
    book_trainer = torch.optim.Adam(book.parameters())
    our_trainer = torch.optim.Adam(
        [p for p in ours.parameters() if p.requires_grad], fused=True
    )
    dataset = ImageDataset(X, y, one_by_one)
    loader = DataLoader(whole.dataset(X, y, DEVICE), EPOCH_BATCH, shuffle=True)

    def chapter(workers: int) -> float:
        how = {"shuffle": True, "num_workers": workers}
        start = time.perf_counter()
        for features, labels in DataLoader(dataset, EPOCH_BATCH, **how):
            book_step(book, features, labels, book_trainer)
        return N / (time.perf_counter() - start)

    def course() -> float:
        run = (ours, loader, loader, LOSS, our_trainer, 1, [DEVICE])
        return N / list(train_epochs(*run))[-1].seconds

    return {
        "the chapter's loop, 0 workers": lambda: chapter(0),
        "the chapter's loop, 2 workers": lambda: chapter(2),
        "ours": course,
    }


def mixing_shares() -> dict[str, float]:
    """The time of mixing and its loss, as a fraction of a step of ResNet-18."""
    X = torch.rand(STEP_BATCH, 3, 32, 32, device=DEVICE)
    X = X.to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (STEP_BATCH,), device=DEVICE)
    net = resnet18(10, 3).to(DEVICE, memory_format=torch.channels_last)
    trainer = torch.optim.Adam(net.parameters(), fused=True)
    pred = torch.randn(STEP_BATCH, 10, device=DEVICE, requires_grad=True)

    def mixed(mix, per_example: bool) -> None:
        _, y_a, y_b, lam = mix(X, y, 0.5, per_example)
        mixup_criterion(LOSS, pred, y_a, y_b, lam).sum().backward()

    def plain() -> None:
        LOSS(pred, y).sum().backward()

    def seconds(run: Callable[[], object], times: int) -> float:
        taken = []
        for _ in range(times):
            start = time.perf_counter()
            run()
            float(pred.detach().sum())  # waits for the device
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    run = (net, X, y, LOSS, trainer, [DEVICE])
    step = seconds(lambda: float(train_batch_ch13(*run)[0]), ROUNDS + 1)
    before = seconds(plain, 50)
    return {
        f"{mix.__name__}, {'each image' if per_example else 'one'} lambda": (
            seconds(lambda m=mix, p=per_example: mixed(m, p), 50) - before
        )
        / step
        for mix in (mixup_data, cutmix_data)
        for per_example in (False, True)
    }


def compare(title: str, runners: dict[str, Callable[[], float]]) -> None:
    rates = {name: [] for name in runners}
    for i in range(ROUNDS + 1):
        for name, run in runners.items():
            rate = run()
            if i > 0:  # the first round warms up
                rates[name].append(rate)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    book = max(rate for name, rate in medians.items() if name != "ours")
    print(title)
    for name, rate in medians.items():
        print(f"    {name:32}{rate:10,.0f}{rate / book:8.2f}")


def main() -> None:
    # Two workers on one core would still be a comparison.
    warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
    threads = torch.get_num_threads()
    fast = "fast" if bf16_is_fast(DEVICE) else "not used"
    print(f"{DEVICE}, {threads} threads, bfloat16 {fast}, {ROUNDS} rounds")
    print(f"{'':36}{'examples/s':>10}{'ratio':>8}")
    compare(f"ResNet-18, one step, batches of {STEP_BATCH}", step_runners())
    compare(f"small net, an epoch of {N:,}, flip and crop", epoch_runners())
    print("what mixing adds to a step of ResNet-18")
    for name, share in mixing_shares().items():
        print(f"    {name:42}{share:8.2%}")


if __name__ == "__main__":
    main()
