"""What does each augmentation buy? The same net with each, over several seeds.

    python -m tools.experiments.ladder --epochs 10 --results ladder.json

Started again, the command trains only what the file does not have yet.
"""

import argparse
import shlex
import sys
from pathlib import Path

from d2lext.train import KEYS, Config, Results, train

# A name, and what the run differs in from the default; the later ones build on
# flips and crops.
RUNGS = {
    "none": {"policy": "none"},
    "flip": {"policy": "flip"},
    "alternating flip": {"policy": "alternate"},
    "crop": {"policy": "crop"},
    "flip + crop": {"policy": "flip+crop"},
    "+ colour": {"policy": "flip+crop+color"},
    "+ erasing": {"policy": "flip+crop+erase"},
    "+ RandAugment": {"policy": "flip+crop+randaugment"},
    "+ TrivialAugment": {"policy": "flip+crop+trivialaugment"},
    "+ mixup": {"policy": "flip+crop", "mixup_alpha": 0.5},
    "+ CutMix": {"policy": "flip+crop", "cutmix_alpha": 1.0},
    "all": {"policy": "flip+crop+color+erase", "mixup_alpha": 0.5, "cutmix_alpha": 1.0},
}


def rung(run: dict) -> str | None:
    """The name of the rung that a recorded run is of, if it is of one."""
    for name, changed in RUNGS.items():
        wanted = {"mixup_alpha": 0, "cutmix_alpha": 0} | changed
        if all(run[key] == value for key, value in wanted.items()):
            return name
    return None


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m tools.experiments.ladder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num-train", type=int, default=10_000)
    parser.add_argument("--widths", type=int, nargs=3, default=Config().widths)
    parser.add_argument("--results", type=Path, required=True)
    args = parser.parse_args(argv)
    try:
        command = "python -m tools.experiments.ladder " + shlex.join(argv)
        results = Results(args.results, command, KEYS)
        for seed in args.seed:  # all rungs of a seed, so that a part is a whole too
            for name, changed in RUNGS.items():
                config = Config(
                    seed=seed,
                    epochs=args.epochs,
                    num_train=args.num_train,
                    widths=tuple(args.widths),
                    **changed,
                )
                if not results.has(config):
                    run = train(config).run
                    results.add(run)
                    print(
                        f"{name}, seed {seed}: test acc {run['test_acc'][-1]:.3f}, "
                        f"{run['seconds']:.1f} s",
                        flush=True,
                    )
    except KeyboardInterrupt:
        print("ladder: stopped; what was measured is recorded", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"ladder: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
