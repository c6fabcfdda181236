"""8.1: settings that beat the lesson's."""

import dataclasses
from collections.abc import Iterable

import torch

from d2lext.course import exercises as ex
from d2lext.runs import content, final, grouped

WORDS = {
    "right": "you chose on held-out images, and chance does not explain the gain.",
    "empty": "the list is empty. Check that read_runs() finds your runs.",
    "foreign": "one run has no {found}. Return only runs that `python -m "
    "d2lext.train` recorded.",
    "data": "some runs used other data than the sample: {found}. Leave them out.",
    "budget": "a run may see at most {wanted:,} images; one of yours saw {found:,}.",
    "net": "the net may have at most {wanted:,} parameters, as in the lesson; one of "
    "yours has {found:,}.",
    "unconfirmed": "no run used the test images. Confirm the settings that you chose "
    "with fresh seeds, without --num-val.",
    "several": "your runs on the test images mix several settings. Confirm only one.",
    "same": "these are the lesson's own settings. Find others.",
    "unchosen": "you never tried these settings on held-out images. Choose there "
    "first, with --num-val 1000.",
    "better": "on held-out images the policy {found} did best, with {wanted:.1f}%. "
    "Confirm those settings.",
    "fresh": "you already used seeds {found} to choose. Confirm with other seeds.",
    "few": "you confirmed with {found} different seeds. Use at least {wanted}.",
    "lower": "your mean test accuracy is {found:.1f}%; the lesson's is {wanted:.1f}%.",
    "noise": "your {found:.1f}% beats the lesson's {wanted:.1f}%, but after {tries} "
    "tries chance alone can bring a gain of {spread:.1f} points.",
}
SEEDS = 5
HELD = 1000  # images for choosing settings
SHUFFLES = 20_000


def check(answer: ex.Answer) -> None:
    runs = answer()
    dicts = isinstance(runs, list) and all(isinstance(run, dict) for run in runs)
    ex.refuse("type", not dicts, wanted="a list of runs", got=ex.kind(runs))
    ex.refuse("empty", not runs)
    lesson = content("sample_policies.json")["runs"]
    lesson = [run for run in lesson if run["policy"] == "all"]
    for run in runs:
        for name in ("policy", "seed", "data", "examples", "parameters", "test_acc"):
            ex.refuse("foreign", run.get(name) in (None, []), found=name)
        ex.refuse("data", run["data"] != lesson[0]["data"], found=run["data"])
        for key, name in (("budget", "examples"), ("net", "parameters")):
            found, wanted = run[name], lesson[0][name]
            ex.refuse(key, found > wanted, found=found, wanted=wanted)
    tries = grouped((run for run in runs if run.get("num_val")), _settings)
    held = grouped((run for run in runs if run.get("num_val") == HELD), _settings)
    confirmed = grouped((run for run in runs if not run.get("num_val")), _settings)
    ex.refuse("unconfirmed", not confirmed)
    ex.refuse("several", len(confirmed) > 1)
    chosen, group = confirmed.popitem()
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
    more = ours.mean() - theirs.mean()
    numbers = {"found": ours.mean().item(), "wanted": theirs.mean().item()}
    ex.refuse("lower", more <= 0, **numbers)
    # The differences that arise if chance deals all accuracies into two groups. With
    # this many tries, the largest exceeds `spread` in 5 of 100 cases.
    accs, n = torch.cat([ours, theirs]), len(ours)
    generator = torch.Generator().manual_seed(0)  # equal runs get equal verdicts
    dealt = accs[torch.rand(SHUFFLES, len(accs), generator=generator).argsort(1)]
    chance = dealt[:, :n].mean(1) - dealt[:, n:].mean(1)
    spread = chance.quantile(1 - 0.05 / tries).item()
    ex.refuse("noise", more <= spread + 1e-9, spread=spread, tries=tries, **numbers)
