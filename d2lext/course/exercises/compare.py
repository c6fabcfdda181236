"""8.1: settings that beat the lesson's."""

import dataclasses
from collections.abc import Iterable

import torch

from d2lext.course import exercises as ex
from d2lext.runs import content, final

WORDS = {
    "right": "chosen on held-out images, confirmed with fresh seeds, and better by "
    "more than chance allows after so many tries.",
    "empty": "the list is empty. Have your runs been recorded?",
    "foreign": "a run is not one of `python -m d2lext.train`: it has no {found}.",
    "data": "some runs are on other data than the sample: {found}.",
    "budget": "a run may see {wanted:,} images; one has seen {found:,}.",
    "net": "a run has a net of {found:,} parameters; the lesson's has {wanted:,}.",
    "unconfirmed": "all runs are on held-out images. Confirm the settings that you "
    "chose: other seeds, without --num-val.",
    "several": "the runs on test images are of different settings. Confirm one.",
    "same": "that is the lesson's own policy; find another.",
    "unchosen": "there is no run of these settings on held-out images: choose there "
    "(--num-val 1000), not on the test images.",
    "better": "on held-out images {found} did better, {wanted:.1f}%. Confirm that.",
    "fresh": "seed {found} was used to choose already. Confirm with others.",
    "few": "there are {found} different seeds on test images. Train at least {wanted}.",
    "lower": "the mean test accuracy is {found:.1f}%, the lesson's {wanted:.1f}%.",
    "noise": "{found:.1f}% is more than the lesson's {wanted:.1f}%, but with this "
    "spread, and after {tries} tries, {spread:.1f} points more may be chance.",
}
SEEDS = 5
SHUFFLES = 20_000


def check(answer: ex.Answer) -> None:
    runs = answer()
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise ex.AnswerError("type", wanted="a list of runs", got=ex.kind(runs))
    if not runs:
        raise ex.AnswerError("empty")
    lesson = content("sample_policies.json")["runs"]
    lesson = [run for run in lesson if run["policy"] == "all"]
    for run in runs:
        for name in ("policy", "seed", "data", "examples", "parameters", "test_acc"):
            if name not in run:
                raise ex.AnswerError("foreign", found=name)
        if run["data"] != lesson[0]["data"]:
            raise ex.AnswerError("data", found=run["data"])
        for key, name in (("budget", "examples"), ("net", "parameters")):
            if run[name] > lesson[0][name]:
                raise ex.AnswerError(key, found=run[name], wanted=lesson[0][name])
    tries: dict[tuple, list[dict]] = {}
    confirmed = [run for run in runs if not run.get("num_val")]
    for run in runs:
        if run.get("num_val"):
            tries.setdefault(_settings(run), []).append(run)
    _judge(tries, confirmed, _settings(lesson[0]))
    once = {run["seed"]: run for run in confirmed}.values()
    _compare(_last(once), _last(lesson), len(tries))


def _settings(run: dict) -> tuple:
    """All that makes a difference between runs besides the seed."""
    from d2lext.train import Config

    parts = {"all": "flip+rescale+color"}.get(run["policy"], run["policy"]).split("+")
    others = {"policy", "seed", "num_val", "amp"}
    fields = [f for f in dataclasses.fields(Config) if f.name not in others]
    values = (run.get(f.name, f.default) for f in fields)
    return (frozenset(parts), *(tuple(v) if isinstance(v, list) else v for v in values))


def _judge(tries: dict, confirmed: list[dict], lesson: tuple) -> None:
    """Whether settings were chosen on held-out images, and confirmed once."""
    if not confirmed:
        raise ex.AnswerError("unconfirmed")
    if len({_settings(run) for run in confirmed}) > 1:
        raise ex.AnswerError("several")
    chosen = _settings(confirmed[0])
    if chosen == lesson:
        raise ex.AnswerError("same")
    if chosen not in tries:
        raise ex.AnswerError("unchosen")
    best = max(tries.values(), key=lambda runs: _last(runs).mean())
    if best is not tries[chosen]:
        found, wanted = best[0]["policy"], _last(best).mean().item()
        raise ex.AnswerError("better", found=found, wanted=wanted)
    seeds = {run["seed"] for run in confirmed}
    for used in seeds & {run["seed"] for run in tries[chosen]}:
        raise ex.AnswerError("fresh", found=used)
    if len(seeds) < SEEDS:
        raise ex.AnswerError("few", found=len(seeds), wanted=SEEDS)


def _last(runs: Iterable[dict]) -> torch.Tensor:
    return 100 * torch.tensor(final(runs), dtype=torch.float64)


def _compare(ours: torch.Tensor, theirs: torch.Tensor, tries: int) -> None:
    numbers = {"found": ours.mean().item(), "wanted": theirs.mean().item()}
    if ours.mean() <= theirs.mean():
        raise ex.AnswerError("lower", **numbers)
    # How large a difference would be if all of these were dealt into two groups by
    # chance. Of so many tries one gets beyond this in 5 of 100 cases.
    accs, n = torch.cat([ours, theirs]), len(ours)
    generator = torch.Generator().manual_seed(0)  # the same runs, the same verdict
    dealt = accs[torch.rand(SHUFFLES, len(accs), generator=generator).argsort(1)]
    chance = dealt[:, :n].mean(1) - dealt[:, n:].mean(1)
    spread = chance.quantile(1 - 0.05 / tries).item()
    if ours.mean() - theirs.mean() <= spread + 1e-9:
        raise ex.AnswerError("noise", spread=spread, tries=tries, **numbers)
