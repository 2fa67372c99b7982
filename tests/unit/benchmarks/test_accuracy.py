"""Beside what else people use: what is measured, what a failed side leaves, and the table."""

import importlib
import json
import os
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SCORE = """
import json, pathlib, sys
settings = json.loads(sys.argv[1])
pathlib.Path({calls!r}).open("a").write(settings["task"] + " {name}\\n")
rows = pathlib.Path(settings["rows"], "test.jsonl").read_text().splitlines()
print("other words")
print(json.dumps({{"validation": 0.5, "test": {score}, "detail": f"{{len(rows)}} rows"}}))
"""
FAILS = "import sys; print('half a line'); sys.exit('no such encoder')"
HANGS = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def accuracy():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("accuracy")
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def calls(tmp_path):
    path = tmp_path / "calls"
    path.touch()
    return path


@pytest.fixture
def sides(accuracy, monkeypatch, tmp_path, calls):
    """Sides that are scripts of one line: two peers, in our environment, and adaptune."""

    def script(name, source):
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return path

    made = {}
    for name, score in (("one", 0.75), ("two", 0.5), (accuracy.OURS, 0.8125)):
        source = SCORE.format(calls=str(calls), name=name, score=score)
        environment = None if name == accuracy.OURS else name
        made[name] = accuracy.Side(f"Side {name}", script(name, source), environment)
    made["setfit"] = accuracy.Side("SetFit", script("setfit", FAILS), "setfit", {"iterations": 5})
    made[accuracy.OURS] = made.pop(accuracy.OURS)
    monkeypatch.setattr(accuracy, "SIDES", made)
    monkeypatch.setattr(accuracy, "peer_python", lambda *_: Path(sys.executable))
    return made


@pytest.fixture
def options(tmp_path, sides):
    """Two registered tasks of a few rows, in the layout of `data_dir`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for task in ("sms_spam", "cf_airline"):
        (tmp_path / "data" / task).mkdir(parents=True)
        for split, rows in (("train", 12), ("validation", 8), ("test", 16)):
            table = {"text": [f"{split} text {n}" for n in range(rows)], "label": ["no", "yes"] * (rows // 2)}
            pq.write_table(pa.table(table), tmp_path / "data" / task / f"{split}.parquet")
    return Namespace(
        data_dir=tmp_path / "data",
        tasks=["sms_spam", "cf_airline"],
        sides=list(sides),
        rows=10,
        minutes=1.0,
        out_dir=tmp_path,
        peer_cache=tmp_path / "cache",
    )


def measure_all(accuracy, options):
    results = accuracy.Results(options.out_dir, options.rows)
    for task in options.tasks:
        accuracy.measure(options, results, task)
    return results


def called(calls):
    return calls.read_text().splitlines()


def table_rows(report, number):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in report.tables[number].splitlines()]


def test_every_side_reads_the_same_rows_and_each_score_is_a_line_of_the_file(accuracy, options):
    results = measure_all(accuracy, options)
    lines = (options.out_dir / "results.jsonl").read_text().splitlines()
    assert [(line["task"], line["side"]) for line in map(json.loads, lines)] == [
        (task, side) for task in options.tasks for side in ("one", "two", "setfit", "adaptune")
    ]
    one = results.get("sms_spam", "one")
    assert (one["test"], one["detail"], one["rows"], one["test_rows"]) == (0.75, "16 rows", 10, 16)
    assert one["seconds"] > 0


def test_what_is_measured_is_not_measured_again_and_what_failed_is(accuracy, options, calls):
    measure_all(accuracy, options)
    before = called(calls)
    assert len(before) == 6
    (options.out_dir / "setfit.py").write_text((options.out_dir / "one.py").read_text())
    results = measure_all(accuracy, options)
    assert results.get("sms_spam", "setfit")["test"] == 0.75
    again = [call for call in called(calls)[len(before) :] if "adaptune" not in call]
    assert again == ["sms_spam one", "cf_airline one"]  # the scripts that now stand for setfit


def test_other_numbers_of_rows_are_measured_for_themselves(accuracy, options, calls):
    measure_all(accuracy, options)
    options.rows = 8
    results = measure_all(accuracy, options)
    assert len(called(calls)) == 12
    assert results.get("sms_spam", "one")["rows"] == 8
    assert accuracy.Results(options.out_dir, 10).get("sms_spam", "one")["rows"] == 10


def test_a_line_that_a_kill_cut_short_is_measured_again_and_the_rest_is_kept(accuracy, options):
    measure_all(accuracy, options)
    path = options.out_dir / "results.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-20])
    assert accuracy.Results(options.out_dir, 10).get("cf_airline", "adaptune") is None
    measure_all(accuracy, options)
    results = accuracy.Results(options.out_dir, 10)
    assert results.get("cf_airline", "adaptune")["test"] == 0.8125
    assert results.get("sms_spam", "one")["test"] == 0.75


def test_a_side_that_fails_says_why_and_the_others_go_on(accuracy, options):
    results = measure_all(accuracy, options)
    failed = results.get("sms_spam", "setfit")
    assert failed["failed"] == "no such encoder"
    assert "test" not in failed
    report = accuracy.make_report(options, results)
    assert "SetFit on sms_spam failed: no such encoder." in report.notes


def test_a_side_whose_environment_cannot_be_made_has_failed_and_the_others_go_on(
    accuracy, options, monkeypatch
):
    def no_registry(cache, name):
        if name == "two":
            raise subprocess.CalledProcessError(1, "pip")
        return Path(sys.executable)

    monkeypatch.setattr(accuracy, "peer_python", no_registry)
    results = measure_all(accuracy, options)
    assert "two" in results.get("sms_spam", "two")["failed"]
    assert results.get("sms_spam", "adaptune")["test"] == 0.8125


def test_a_side_that_takes_too_long_is_ended_with_all_that_it_started(accuracy, options, tmp_path):
    child = tmp_path / "child"
    start = f"import subprocess as s, sys; p = s.Popen([sys.executable, '-c', {HANGS!r}]); "
    script = tmp_path / "slow.py"
    script.write_text(start + f"open({str(child)!r}, 'w').write(str(p.pid)); p.wait()")
    result = accuracy.run_side(
        accuracy.Side("slow", script), Path(sys.executable), {"threads": 1}, 2.0, tmp_path / "log"
    )
    assert result["failed"].startswith("not done after")
    deadline = time.monotonic() + 10
    while is_alive(int(child.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(int(child.read_text()))


def is_alive(process):
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_the_search_may_take_as_long_as_the_slowest_peer_with_a_score(accuracy, options):
    results = accuracy.Results(options.out_dir, 10)
    place = {"task": "sms_spam", "rows": 10, "test_rows": 16, "minutes": 60}
    scores = {"validation": 0.5, "test": 0.5, "detail": ""}
    results.add({**place, "side": "one", "seconds": 90.0, **scores})
    results.add({**place, "side": "two", "seconds": 120.0, **scores})
    results.add({**place, "side": "setfit", "seconds": 3600.0, "failed": "not done after 60 min"})
    assert results.slowest_minutes("sms_spam") == 2.0
    assert results.slowest_minutes("cf_airline") is None
    accuracy.measure(options, results, "sms_spam")
    assert results.get("sms_spam", "adaptune")["minutes"] == 2.0


def test_a_search_is_made_again_where_a_slower_peer_came_after_it(accuracy, options):
    results = measure_all(accuracy, options)
    given = results.get("sms_spam", "adaptune")["minutes"]
    assert not results.wants("sms_spam", "adaptune", given)
    assert results.wants("sms_spam", "adaptune", 2 * given)
    assert not results.wants("sms_spam", "one", 2 * given)


def test_the_table_has_each_score_and_second_and_says_what_is_missing(accuracy, options):
    results = accuracy.Results(options.out_dir, 10)
    place = {"rows": 10, "test_rows": 100, "minutes": 60.0, "validation": 0.5, "detail": "size 8"}
    for task, side, score in (("sms_spam", "one", 0.8), ("cf_airline", "one", 0.6), ("sms_spam", "two", 0.9)):
        results.add({"task": task, "side": side, "test": score, "seconds": 12.4, **place})
    report = accuracy.make_report(options, results)
    head, _, spam, airline, mean = table_rows(report, 0)
    missing = accuracy.UNMEASURED
    titles = ["Side one", "Side two", "SetFit", "Side adaptune"]
    assert head == ["test accuracy, %", "test rows", *titles, "95 %"]
    # 1.96 sqrt(0.9 x 0.1 / 100) = 5.88 points
    assert spam == ["sms_spam", "100", "80.0", "90.0", missing, missing, "± 5.9"]
    assert airline == ["cf_airline", "100", "60.0", missing, missing, missing, "± 9.6"]
    assert mean == ["mean", "", "70.0", "-", "-", "-", ""]  # of sides that have all tasks
    assert table_rows(report, 1)[2] == ["sms_spam", "12", "12", missing, missing]


def test_what_was_never_measured_makes_a_table_too(accuracy, options):
    report = accuracy.make_report(options, accuracy.Results(options.out_dir, 10))
    assert table_rows(report, 0)[2][2:] == [accuracy.UNMEASURED] * 4 + ["-"]


def test_the_most_frequent_class_is_that_of_train(accuracy, options):
    side = accuracy.Side("most frequent", BENCHMARKS / "peer" / "most_frequent.py")
    rows = options.out_dir / "rows"
    rows.mkdir()
    for split, labels in (("train", "aab"), ("validation", "ab"), ("test", "abbb")):
        lines = (json.dumps({"text": "t", "label": label}) + "\n" for label in labels)
        (rows / f"{split}.jsonl").write_text("".join(lines))
    settings = {"threads": 1, "rows": str(rows)}
    result = accuracy.run_side(side, Path(sys.executable), settings, 60.0, options.out_dir / "log")
    assert (result["validation"], result["test"]) == (0.5, 0.25)


def test_a_task_without_its_folder_is_refused_instead_of_other_rows_taking_its_place(
    accuracy, options, monkeypatch, capsys
):
    arguments = ["accuracy.py", "--data-dir", str(options.data_dir), "--out-dir", str(options.out_dir)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--tasks", "sms_spam", "cf_emotion"])
    with pytest.raises(SystemExit):
        accuracy.main()
    assert "--data-dir has no folder cf_emotion" in capsys.readouterr().err


def test_an_environment_is_built_once_and_again_when_its_requirements_change(accuracy, tmp_path, monkeypatch):
    peer_env = importlib.import_module("peer_env")
    installed = []

    def make_python(folder, **_):
        (folder / "bin").mkdir(parents=True)
        (folder / "bin" / "python").touch()

    monkeypatch.setattr(peer_env, "PEER", tmp_path)
    monkeypatch.setattr(peer_env.venv, "create", make_python)
    monkeypatch.setattr(peer_env.subprocess, "run", lambda command, **_: installed.append(command[-1].name))
    for requirements in ("setfit==1", "setfit==1", "setfit==2"):
        (tmp_path / "setfit.txt").write_text(requirements)
        python = peer_env.peer_python(tmp_path / "cache", "setfit")
    assert installed == ["setfit.txt", "setfit.txt"]
    assert python == tmp_path / "cache" / "peers" / "setfit" / "bin" / "python"


@pytest.mark.e2e
def test_the_default_search_answers_with_its_winners_scores(accuracy, options):
    material = importlib.import_module("material")
    encoder = material.save_random_encoder(options.out_dir / "encoder", layers=2, width=64, vocabulary=100)
    rows = options.out_dir / "rows"
    rows.mkdir()
    for split in material.SPLITS:
        lines = (
            json.dumps({"text": f"{label} {n}", "label": label}) + "\n" for n in range(12) for label in "ab"
        )
        (rows / f"{split}.jsonl").write_text("".join(lines))
    settings = {
        "task": "toy",
        "rows": str(rows),
        "backbone_folder": str(encoder),
        "max_tokens": 8,
        "threads": 1,
        "seed": 0,
        "minutes": 3,
    }
    side = accuracy.Side("adaptune", BENCHMARKS / "search_ours.py")
    log = options.out_dir / "log"
    result = accuracy.run_side(side, Path(sys.executable), settings, 400.0, log)
    assert "failed" not in result, log.read_text()
    assert 0 <= result["test"] <= 1
    assert "adapter_size" in result["detail"]
    assert "its own floor (probe)" in result["detail"]


def test_every_peer_has_an_environment_with_requirements_and_its_script(accuracy):
    for side in accuracy.SIDES.values():
        assert side.script.is_file()
        if side.environment is not None:
            assert side.environment in accuracy.ENVIRONMENTS
            assert (accuracy.PEER / f"{side.environment}.txt").is_file()
