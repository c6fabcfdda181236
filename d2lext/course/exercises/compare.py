"""8.1: settings that beat the lesson's."""

import dataclasses
from collections.abc import Iterable

import torch

from d2lext.course import exercises as ex
from d2lext.runs import content, final, grouped

WORDS = {
    "right": "you chose on held-out images, and chance does not explain the gain.",
    "large": "a run may have at most {wanted:,} {name}, as in the lesson; one of yours "
    "has {found:,}.",
    "confirmed": "your runs on the sample's test images have {found} settings. Confirm "
    "exactly one, with fresh seeds and without --num-val.",
    "same": "these are the lesson's own settings. Find others.",
    "unchosen": "you never tried these settings on held-out images. Choose there "
    "first, with --num-val 1000.",
    "better": "on held-out images the policy {found} did best, with {wanted:.1f}%. "
    "Confirm those settings.",
    "fresh": "you already used seeds {found} to choose. Confirm with other seeds.",
    "few": "you confirmed with {found} different seeds. Use at least {wanted}.",
    "noise": "your mean test accuracy is {found:.1f}%, the lesson's {wanted:.1f}%. "
    "After {tries} tries, chance alone can bring a gain of {spread:.1f} points.",
}
SEEDS = 5
HELD = 1000  # images for choosing settings


def check(answer: ex.Answer) -> None:
    runs = answer()
    dicts = isinstance(runs, list) and all(isinstance(run, dict) for run in runs)
    ex.refuse("type", not dicts, wanted="a list of runs", got=ex.kind(runs))
    lesson = content("sample_policies.json")["runs"]
    lesson = [run for run in lesson if run["policy"] == "all"]
    # Those of lessons or on other data do not count, nor what the bench revealed.
    data, needed = lesson[0]["data"], ("policy", "examples", "parameters", "test_acc")
    runs = [r for r in runs if r.get("data") == data and all(map(r.get, needed))]
    runs = [r for r in runs if "num_val" in r and "revealed" not in r]
    for run in runs:
        for name in ("examples", "parameters"):
            values = {"found": run[name], "wanted": lesson[0][name], "name": name}
            ex.refuse("large", run[name] > lesson[0][name], **values)
    tries = grouped((run for run in runs if run["num_val"]), _settings)
    held = grouped((run for run in runs if run["num_val"] == HELD), _settings)
    confirmed = grouped((run for run in runs if not run["num_val"]), _settings)
    ex.refuse("confirmed", len(confirmed) != 1, found=len(confirmed))
    ((chosen, group),) = confirmed.items()
    once = {run["seed"]: run for run in group}
    ex.refuse("same", chosen == _settings(lesson[0]))
    ex.refuse("unchosen", chosen not in held)
    best = max(held.values(), key=lambda runs: _last(runs).mean())
    found, wanted = best[0]["policy"], _last(best).mean()
    ex.refuse("better", best is not held[chosen], found=found, wanted=wanted)
    used = once.keys() & {run["seed"] for run in tries[chosen]}
    ex.refuse("fresh", used, found=", ".join(map(str, sorted(used))))
    ex.refuse("few", len(once) < SEEDS, found=len(once), wanted=SEEDS)
    _judge(_last(once.values()), _last(lesson), len(tries))


def _settings(run: dict) -> tuple:
    """All that can differ between runs, except the seed."""
    from d2lext.compare import augmentations
    from d2lext.train import Config

    try:  # one policy can be spelled in several ways
        parts = tuple(sorted(map(repr, augmentations(run["policy"]).transforms)))
    except (TypeError, ValueError):
        parts = run["policy"]
    others = {"policy", "seed", "num_val", "amp"}
    fields = [f for f in dataclasses.fields(Config) if f.name not in others]
    values = (run.get(f.name, f.default) for f in fields)
    return (parts, *(tuple(v) if isinstance(v, list) else v for v in values))


def _last(runs: Iterable[dict]) -> torch.Tensor:
    return 100 * torch.tensor(final(runs), dtype=torch.float64)


def _judge(ours: torch.Tensor, theirs: torch.Tensor, tries: int) -> None:
    # The differences that arise if chance deals all accuracies into two groups. With
    # this many tries, the largest exceeds `spread` in 5 of 100 cases.
    accs, n = torch.cat([ours, theirs]), len(ours)
    generator = torch.Generator().manual_seed(0)  # equal runs get equal verdicts
    dealt = accs[torch.rand(20_000, len(accs), generator=generator).argsort(1)]
    chance = dealt[:, :n].mean(1) - dealt[:, n:].mean(1)
    spread = max(0.0, chance.quantile(1 - 0.05 / tries).item())
    values = {"found": ours.mean(), "wanted": theirs.mean(), "tries": tries}
    lost = ours.mean() - theirs.mean() <= spread + 1e-9
    ex.refuse("noise", lost, spread=spread, **values)
