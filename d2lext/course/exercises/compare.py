"""8.1: settings that beat the lesson's."""

import json

import torch

from d2lext.course.exercises import Answer, AnswerError, kind
from d2lext.images import data_path

WORDS = {
    "right": "by more than the spread of the difference, within the budget. "
    "(Settings that are just as good get here one time in six: more seeds tell.)",
    "empty": "the list is empty. Has your training been recorded?",
    "data": "some runs are on other data than the sample: {found}.",
    "budget": "a run may see {wanted:,} images; one has seen {found:,}.",
    "net": "a run has a net of {found:,} parameters; the lesson's has {wanted:,}.",
    "several": "the runs are of different settings. Give those of one.",
    "few": "there are {found} different seeds. Train at least {wanted}.",
    "same": "that is the lesson's own policy; find another.",
    "lower": "the mean test accuracy is {found:.1f}%, the lesson's {wanted:.1f}%.",
    "noise": "{found:.1f}% is more than the lesson's {wanted:.1f}%, but with this "
    "spread a difference up to {spread:.1f} points may be chance.",
}


def check(answer: Answer) -> None:
    runs = answer()
    if not isinstance(runs, list) or not all(isinstance(run, dict) for run in runs):
        raise AnswerError("type", wanted="a list of runs", got=kind(runs))
    if not runs:
        raise AnswerError("empty")
    best = _best_of_lesson_8()
    for run in runs:
        if run.get("num_val"):
            raise AnswerError("data", found="training images that were held out")
        if run["data"] != best[0]["data"]:
            raise AnswerError("data", found=run["data"])
        for key, name in (("budget", "examples"), ("net", "parameters")):
            if run[name] > best[0][name]:
                raise AnswerError(key, found=run[name], wanted=best[0][name])
    if len({_settings(run) for run in runs}) > 1:
        raise AnswerError("several")
    runs = list({run["seed"]: run for run in runs}.values())
    if len(runs) < 3:
        raise AnswerError("few", found=len(runs), wanted=3)
    if _settings(runs[0]) == _settings(best[0]):
        raise AnswerError("same")
    ours, theirs = (
        torch.tensor([100 * run["test_acc"][-1] for run in group]).double()
        for group in (runs, best)
    )
    numbers = {"found": ours.mean().item(), "wanted": theirs.mean().item()}
    if ours.mean() <= theirs.mean():
        raise AnswerError("lower", **numbers)
    # The standard deviation of the difference of two means.
    spread = sum(accs.var() / len(accs) for accs in (ours, theirs)).sqrt().item()
    if ours.mean() - theirs.mean() < spread:
        raise AnswerError("noise", spread=spread, **numbers)


def _best_of_lesson_8() -> list[dict]:
    file = data_path("results") / "sample_policies.json"
    runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
    return [run for run in runs if run["policy"] == "all"]


def _settings(run: dict) -> tuple:
    policy = {"all": "flip+rescale+color"}.get(run["policy"], run["policy"])
    mixed = (run.get("mixup_alpha", 0), run.get("cutmix_alpha", 0))
    names = ("net", "epochs", "batch_size", "lr", "weight_decay", "label_smoothing")
    return (policy, *mixed, *(run[name] for name in names))
