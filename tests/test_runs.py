import json
import os

import pytest

from d2lext import runs
from d2lext.images import DATA
from d2lext.multi_gpu import History, Point
from d2lext.runs import Results, read_runs, record_run


def test_runs_are_added_and_read(tmp_path, capsys) -> None:
    """A line that is no run is left out."""
    file = tmp_path / "runs.jsonl"
    assert read_runs() == []
    record_run({"policy": "flip", "test_acc": [0.5]})
    file.write_text(file.read_text() + '{"policy": "no\n')
    record_run({"policy": "none", "test_acc": []})
    first, second = read_runs()
    assert first.items() >= {"policy": "flip", "test_acc": [0.5]}.items()
    assert second["policy"] == "none" and "time" in second
    assert "line 2: not a run" in capsys.readouterr().err


def test_where_they_are_added(monkeypatch, tmp_path, capsys) -> None:
    """By default with the data, with an empty name nowhere; else there is a note."""
    monkeypatch.delenv("D2LEXT_RUNS", raising=False)
    assert runs.runs_file() == DATA / "runs.jsonl"
    monkeypatch.setenv("D2LEXT_RUNS", "")
    monkeypatch.chdir(tmp_path)
    record_run({})
    assert read_runs() == [] and list(tmp_path.iterdir()) == []
    monkeypatch.setenv("D2LEXT_RUNS", str(tmp_path))  # a folder
    record_run({})
    words = capsys.readouterr().err
    assert words.startswith(f"note: the run was not recorded in {tmp_path} (")
    assert words.endswith("); set D2LEXT_RUNS to another file\n")


def test_curves_are_the_ends_of_epochs() -> None:
    half, end = Point(0.5, 2, 0.1, None, 5, 1), Point(1, 1, 0.2, 0.3, 10, 2)
    run = runs.curves(History([half, end, Point(1.5, 1, 1, None, 15, 3)]))
    assert run["loss"] == [1] and run["train_acc"] == [0.2] and run["test_acc"] == [0.3]
    assert run["examples"] == 10 and run["seconds"] == 2
    assert runs.curves(History())["test_acc"] == []


# Runs that a command collects


def test_commands_share_a_file_and_record_each_run_once(tmp_path) -> None:
    file = tmp_path / "new" / "runs.json"
    first, second = (Results(file, name, ["seed"]) for name in ("first", "second"))
    for i in range(2):
        first.add({"seed": i, "by": 1})
        second.add({"seed": i, "by": 2}, {"seed": 10 + i, "by": 2})
    assert [r["seed"] for r in first.read()] == [0, 10, 1, 11]
    assert [r["by"] for r in first.read()] == [1, 2, 1, 2]
    assert json.loads(file.read_text())["command"] == "first\nsecond"
    assert (first.claim({"seed": 10}), first.claim({"seed": 2})) == ("done", "free")


def test_a_claim_holds_until_it_is_released(tmp_path) -> None:
    wanted = {"seed": 0}
    first, second = (Results(tmp_path / "runs.json", "c", ["seed"]) for _ in range(2))
    assert (first.claim(wanted), second.claim(wanted)) == ("free", "busy")
    assert second.claim({"seed": 1}) == "free"
    second.release()
    first.release()
    assert second.claim(wanted) == "free"  # the first has given up
    second.add(wanted)
    second.release()
    assert first.claim(wanted) == "done"
    assert [p.name for p in tmp_path.glob("*.json.*.lock")] == []


# Recorded runs


def test_every_record_carries_its_data_and_counts() -> None:
    for file in sorted((DATA / "results").glob("*.json")):
        for run in runs.content(file.name).get("runs", []):
            if {"microseconds", "side", "busy cores"} & run.keys():  # a time
                continue
            assert run["data"] in runs.DATA_NAMES
            if "examples" in run:
                assert run["examples"] == run["epochs"] * run["train_images"]
                assert run["test_images"] and run["processes"] == 1


def test_groups_and_their_numbers() -> None:
    made = [
        {"policy": "a", "test_acc": [0.1, 0.5], "ece": 0.1},
        {"policy": "b", "test_acc": [0.2, 0.25], "ece": 0.3},
        {"policy": "a", "test_acc": [0.1, 0.7], "ece": 0.2},
    ]
    groups = runs.grouped(made, lambda run: run["policy"])
    assert list(groups) == ["a", "b"] and runs.final(groups["a"]) == [0.5, 0.7]
    assert runs.mean_sd(runs.final(groups["a"])) == "60.0 ± 14.1"  # 10 * sqrt(2)
    assert runs.mean_sd(runs.final(groups["b"])) == "25.0"
    assert runs.mean_sd(runs.final(groups["a"], "ece"), 2, 1) == "0.15 ± 0.07"


QUOTA, PERIOD = "cpu.cfs_quota_us", "cpu.cfs_period_us"  # files of version 1
CONTAINERS = [
    ("0::/", {"cpu.max": "150000 100000\n"}, 2),
    ("0::/user/anna\n", {"user/cpu.max": "300000 100000", "cpu.max": "max 1"}, 3),
    (
        "1:name=systemd:/x\n5:cpu,cpuacct:/docker/1a",
        {f"cpu,cpuacct/{QUOTA}": "50000", f"cpu,cpuacct/{PERIOD}": "100000"},
        1,
    ),
    ("3:cpu:/", {f"cpu/{QUOTA}": "-1", f"cpu/{PERIOD}": "9"}, 4),
    ("", {}, 4),
]


@pytest.mark.parametrize(("groups", "files", "cores"), CONTAINERS)
def test_the_cores_of_a_container_are_counted(
    tmp_path, monkeypatch, groups, files, cores
):
    (tmp_path / "self").write_text(groups)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(runs, "CGROUPS", tmp_path)
    monkeypatch.setattr(runs, "OWN_GROUPS", tmp_path / "self")
    cores_there = {3, 5, 6, 7}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores_there, raising=False)
    assert runs.usable_cores() == cores
