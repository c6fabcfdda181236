"""Measure what each augmentation is worth on the bundled sample.

    python check_sample.py [--seeds 5] [--epochs 12] [--out sample_accuracy.json]

Trains a small net from scratch for every policy and seed, and writes the accuracies
on the test pictures, which are never augmented, to a json file.
"""

import argparse
import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

SAMPLE = Path(__file__).parent / "sample"
Transform = Callable[[torch.Tensor], torch.Tensor]  # (N, 3, 32, 32) float32 in [0, 1]


def load_sample(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return pictures, (N, 3, 32, 32) float32 in [0, 1], and labels, (N,) int64."""
    labels = json.loads((SAMPLE / "labels.json").read_text(encoding="utf-8"))[split]
    sheet = np.asarray(Image.open(SAMPLE / f"{split}.png"))
    tiles = sheet.reshape(sheet.shape[0] // 32, 32, -1, 32, 3).swapaxes(1, 2)
    pictures = torch.tensor(tiles.reshape(-1, 32, 32, 3)).permute(0, 3, 1, 2)
    return pictures.contiguous() / 255, torch.tensor(labels)


def uniform(n: int, low: float, high: float) -> torch.Tensor:
    """Draw one number per picture, shaped to multiply a batch."""
    return torch.empty(n, 1, 1, 1).uniform_(low, high)


def flip(x: torch.Tensor) -> torch.Tensor:
    """Mirror each picture with probability 1/2."""
    return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-1), x)


def crop(x: torch.Tensor, padding: int = 4) -> torch.Tensor:
    """Pad with black and cut each picture out again at its own place."""
    n, _, height, width = x.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, n, 1))
    rows = (top + torch.arange(height))[:, None, :, None]
    columns = (left + torch.arange(width))[:, None, None, :]
    padded = F.pad(x, (padding,) * 4)
    pictures = torch.arange(n).view(-1, 1, 1, 1)
    channels = torch.arange(3).view(3, 1, 1)
    return padded[pictures, channels, rows, columns]


def rescale(
    x: torch.Tensor,
    scale: tuple[float, float] = (0.3, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> torch.Tensor:
    """Enlarge a random part of each picture to the whole (a random resized crop)."""
    n = len(x)
    area = torch.empty(n).uniform_(*scale)
    aspect = torch.empty(n).uniform_(math.log(ratio[0]), math.log(ratio[1])).exp()
    size = torch.stack([area * aspect, area / aspect], 1).sqrt().clamp(max=1)  # (N, 2)
    center = (1 - size) * (2 * torch.rand(n, 2) - 1)
    theta = torch.cat([torch.diag_embed(size), center[:, :, None]], 2)  # (N, 2, 3)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def gray(x: torch.Tensor) -> torch.Tensor:
    """Return the luma, (N, 1, 32, 32)."""
    return (x * torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)


def turn_hue(x: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
    """Turn the hue of HSV by a fraction of the colour circle."""
    value = x.amax(1, keepdim=True)
    spread = value - x.amin(1, keepdim=True)
    red, green, blue = x.split(1, 1)
    unit = spread.clamp(min=1e-8)
    hue = torch.where(
        value == red,
        (green - blue) / unit,
        torch.where(value == green, (blue - red) / unit + 2, (red - green) / unit + 4),
    )
    k = (hue + 6 * turn + torch.tensor([5.0, 3.0, 1.0]).view(3, 1, 1)) % 6
    return value - spread * torch.minimum(k, 4 - k).clamp(0, 1)


def color(x: torch.Tensor, amount: float = 0.5, hue: float = 0.25) -> torch.Tensor:
    """Jitter brightness, contrast, saturation and hue of each picture."""
    n, low, high = len(x), 1 - amount, 1 + amount
    x = (x * uniform(n, low, high)).clamp(0, 1)
    mean = gray(x).mean((1, 2, 3), keepdim=True)
    x = torch.lerp(mean, x, uniform(n, low, high)).clamp(0, 1)
    x = torch.lerp(gray(x), x, uniform(n, low, high)).clamp(0, 1)
    return turn_hue(x, uniform(n, -hue, hue))


POLICIES: dict[str, list[Transform]] = {
    "none": [],
    "flip": [flip],
    "rescale": [rescale],
    "color": [color],
    "all": [flip, rescale, color],
    "crop": [crop],
}


def whiten(x: torch.Tensor) -> nn.Conv2d:
    """Return a frozen convolution that whitens 2x2 patches of the pictures."""
    patches = F.unfold(x, 2).transpose(1, 2).reshape(-1, 12)  # (patches, 12)
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (vectors / (values + 1e-3).sqrt()).T.reshape(12, 3, 2, 2)
    layer = nn.Conv2d(3, 24, 2, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.cat([filters, -filters]))
    return layer


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    """Return a 3x3 convolution that starts by passing its input on."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    nn.init.dirac_(layer.weight[:inputs])
    return layer


def make_net(x: torch.Tensor, widths: tuple[int, ...]) -> nn.Sequential:
    """Return a net of cifar10-airbench's shape, whitening filters fitted to x."""
    layers = [whiten(x), nn.ReLU()]
    inputs = 24
    for width in widths:
        layers += [conv(inputs, width), nn.MaxPool2d(2), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), conv(width, width), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(inputs, 10)]
    return nn.Sequential(*layers)


def accuracy(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return the percentage of pictures classified correctly."""
    net.eval()
    with torch.no_grad():
        hits = net(x).argmax(1) == y
    return round(100 * hits.float().mean().item(), 2)


def train(
    policy: list[Transform], seed: int, epochs: int, widths: tuple[int, ...]
) -> dict[str, float]:
    """Train one net and return its accuracies in percent."""
    torch.manual_seed(seed)
    x, y = load_sample("train")
    batch_size = 128
    net = make_net(x, widths).to(memory_format=torch.channels_last)
    weights = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": 0.05},
        {"params": [p for p in weights if p.ndim == 1], "weight_decay": 0.0},
    ]
    trainer = torch.optim.AdamW(groups)
    steps = epochs * (len(x) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        trainer, 5e-3, steps, pct_start=0.25, div_factor=10, final_div_factor=100
    )
    for _ in range(epochs):
        net.train()
        order = torch.randperm(len(x)).split(batch_size)
        for batch in order[: len(x) // batch_size]:
            inputs = x[batch]
            for transform in policy:
                inputs = transform(inputs)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
            outputs = net(inputs) / 9
            loss = F.cross_entropy(outputs, y[batch], label_smoothing=0.1)
            trainer.zero_grad()
            loss.backward()
            trainer.step()
            schedule.step()
    return {
        "train_accuracy": accuracy(net, x, y),
        "test_accuracy": accuracy(net, *load_sample("test")),
    }


def main() -> None:
    """Run every policy with every seed, print a table and write the runs."""
    parser = argparse.ArgumentParser(description="Measure each augmentation's worth.")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=[*POLICIES])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--widths", type=int, nargs=3, default=[32, 64, 64])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    settings = {
        "epochs": args.epochs,
        "widths": args.widths,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    runs = []
    for name in args.policies:
        for seed in range(args.seeds):
            start = time.perf_counter()
            result = train(POLICIES[name], seed, args.epochs, tuple(args.widths))
            seconds = round(time.perf_counter() - start, 1)
            runs.append({"policy": name, "seed": seed, **result, "seconds": seconds})
        tests = [run["test_accuracy"] for run in runs if run["policy"] == name]
        spread = statistics.stdev(tests) if len(tests) > 1 else math.nan
        print(
            f"{name:8} test {statistics.mean(tests):5.1f} ± {spread:.1f}"
            f"  train {result['train_accuracy']:.1f}  {seconds} s a run",
            flush=True,
        )
        if args.out:  # after each policy: a long run may be interrupted
            result = {"settings": settings, "runs": runs}
            args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
