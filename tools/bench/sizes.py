"""Compare the speed of whole-batch transforms with other libraries, by image size.

    python -m tools.bench.sizes [SIDE ...] [--results FILE]

Images per CPU-second, on one thread, of a batch of bytes that becomes a batch of
float32, for each transform and side of the images (32, 64, 128 and 224): ours,
torchvision's v2 on one tensor after the other, and kornia's with a draw for each image,
if it is installed. Rounds alternate, and the median counts. If FILE exists, it keeps
the faster of both runs for each: other programs only slow a run down.
"""

import argparse
import importlib.metadata
import json
import statistics
import time
from pathlib import Path

import torch
from torchvision.transforms import v2

from d2lext import batch
from d2lext.runs import hardware

ROUNDS, SECONDS = 5, 0.3
MEAN, STD = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2)


def transforms(module, side: int) -> dict:
    """The transforms, from torchvision or from the module that has its names."""
    return {
        "flip": module.RandomHorizontalFlip(),
        "crop": module.RandomCrop(side, padding=side // 8),
        "jitter": module.ColorJitter(0.5, 0.5, 0.5, 0.5),
        "resized crop": module.RandomResizedCrop(side),
        "erasing": module.RandomErasing(),
        "normalize": module.Normalize(MEAN, STD),
        "rotation": module.RandomRotation(15),
        "affine": module.RandomAffine(15, (0.1, 0.1), (0.8, 1.2), 10),
        "trivialaugment": module.TrivialAugmentWide(),
        "randaugment": module.RandAugment(),
    }


def of_kornia(side: int) -> dict:
    try:
        from kornia import augmentation as K
    except ImportError:
        return {}
    return {
        "flip": K.RandomHorizontalFlip(),
        "crop": K.RandomCrop((side, side), padding=side // 8),
        "jitter": K.ColorJitter(0.5, 0.5, 0.5, 0.5, p=1.0),
        "resized crop": K.RandomResizedCrop((side, side)),
        "erasing": K.RandomErasing(),
        "normalize": K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        "rotation": K.RandomRotation(15.0, p=1.0),
        "affine": K.RandomAffine(15.0, (0.1, 0.1), (0.8, 1.2), 10.0, p=1.0),
    }


def one_by_one(transform, floats_first: bool):
    to_float = v2.ToDtype(torch.float32, scale=True)
    order = [to_float, transform] if floats_first else [transform, to_float]
    chain = v2.Compose(order)
    return lambda X: torch.stack([chain(x) for x in X])


def rate(augment, X: torch.Tensor) -> float:
    """Images per CPU-second."""
    augment(X)
    images, start = 0, time.process_time()
    while (seconds := time.process_time() - start) < SECONDS:
        augment(X)
        images += len(X)
    return images / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sides", nargs="*", type=int, default=(32, 64, 128, 224))
    parser.add_argument("--results", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    old = []
    if args.results and args.results.exists():
        old = json.loads(args.results.read_text(encoding="utf-8"))["runs"]
    before = {(run["side"], run["transform"]): run for run in old}
    runs = []
    print(f"{'':24}{'ours':>12}{'torchvision':>12}{'kornia':>12}  ratios")
    for side in args.sides:
        X = torch.randint(0, 256, (128, 3, side, side), dtype=torch.uint8)
        one, whole = transforms(v2, side), of_kornia(side)
        for name, ours in transforms(batch, side).items():
            first = name in ("erasing", "normalize")
            ways = {
                "ours": lambda X, f=ours: batch.to_float(f(X)),
                "torchvision": one_by_one(one[name], first),
            }
            if name in whole:
                ways["kornia"] = lambda X, f=whole[name]: f(batch.to_float(X))
            rounds = [[rate(way, X) for way in ways.values()] for _ in range(ROUNDS)]
            rates = [statistics.median(r) for r in zip(*rounds, strict=True)]
            ratios = "".join(f"{rates[0] / r:8.2f}" for r in rates[1:])
            words = "".join(f"{r:12,.0f}" for r in rates)
            print(f"{side:4} {name:19}{words:36}{ratios}", flush=True)
            kept = before.get((side, name), {})
            rates = dict(zip(ways, map(round, rates), strict=True))
            rates = {way: max(r, kept.get(way, 0)) for way, r in rates.items()}
            runs.append({"side": side, "transform": name} | rates)
    if args.results:
        about = hardware(torch.device("cpu"))
        if "kornia" in runs[0]:
            about["kornia"] = importlib.metadata.version("kornia")
        lines = ",\n".join(map(json.dumps, runs))
        command = f"python -m tools.bench.sizes --results {args.results}"
        head = json.dumps({"command": command} | about)[:-1]
        args.results.write_text(f'{head}, "runs": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
