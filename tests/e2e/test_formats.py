"""What an earlier commit wrote goes on: a search that was killed then is resumed now."""

import pytest
from jobs import adaptune, read_json
from old_formats import expected, unpack, without_newer_keys
from processes import Command

from search.storage import Storage
from search.study import Record

pytestmark = pytest.mark.e2e


def read_studies(folder):
    with Record(Storage(str(folder / "runs"))) as record:
        return {study.name: study.trials() for study in record.studies("topics")}


def test_a_search_that_an_earlier_commit_began_is_resumed_with_nothing_lost(tmp_path):
    folder = unpack(tmp_path / "old")
    before = read_studies(folder)
    assert all(trial.state in ("running", "paused") for trials in before.values() for trial in trials)

    Command("resume", "topics", folder=folder).wait(0)  # as long as a busy machine needs

    after = read_studies(folder)
    assert after.keys() == before.keys()
    for name, trials in after.items():
        assert len(trials) == 6
        assert {trial.state for trial in trials} <= {"complete", "pruned"}
        for old, new in zip(before[name], trials, strict=False):
            assert (new.params, new.seed, new.rungs) == (old.params, old.seed, old.rungs)
            assert new.epochs[: len(old.epochs)] == old.epochs
    results = read_json(adaptune("results", "topics", "--json", folder=folder))
    assert results["state"] == "finished"
    assert all(task["front"] and task["best"]["bundle"] for task in results["tasks"])


def test_the_command_reads_what_an_earlier_commit_wrote(tmp_path):
    folder = unpack(tmp_path / "old")
    for job in ("methods", "kinds"):
        results = read_json(adaptune("results", job, "--json", folder=folder))
        assert without_newer_keys(results) == expected(folder)[job]
    adaptune("report", "methods", "kinds", "--out", "report", folder=folder)
    assert (folder / "report" / "report.md").is_file()
    (answer,) = adaptune(
        "predict",
        folder / "runs/methods/bundles/topics/adapter",
        "goal team match",
        "--backbone",
        folder / "encoder",
        "--json",
        folder=folder,
    ).stdout.splitlines()
    assert '"label": "sport"' in answer
