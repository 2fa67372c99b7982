"""The method `embeddings` beside another, from a job file to its bundle, through the command."""

import json
from pathlib import Path

import pytest
from jobs import WORDS, adaptune, read_json, trial_runs, write_job

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which adapters and towers have been searched on the toy task."""
    folder = tmp_path_factory.mktemp("both")
    lines = [
        f"{word} {int(topic == 'sport')} {int(topic == 'money')}" for topic in WORDS for word in WORDS[topic]
    ]
    (folder / "topics.vec").write_text(f"{len(lines)} 2\n" + "\n".join(lines) + "\n")
    towers = {
        "embedding": ["token_table", "topics"],
        "fine_tune_embedding": [True, False],
        "hidden_layers": [1],
        "hidden_size": [8],
        "hidden_dropout": [0.1],
        "training_samples": [2000],
    }
    write_job(
        folder,
        method=["adapter", "embeddings"],
        vectors={"topics": "topics.vec"},
        space={
            "adapter": {"adapter_size": [4], "learning_rate": [1e-2], "epochs": [2, 3]},
            "embeddings": towers,
        },
        search={"trials": 4, "scheduler": "halving"},
        confirm={"top": 1, "seeds": 2},
    )
    told = adaptune("check", "topics.yaml", folder=folder).stdout
    assert "vectors topics: 8 words, 2 numbers each" in told
    adaptune("run", "topics.yaml", folder=folder)
    return folder


def test_both_methods_have_a_winner(finished: Path) -> None:
    results = read_json(adaptune("results", "topics", "--json", folder=finished))
    assert results["state"] == "finished"
    adapter, towers = results["tasks"]
    assert [adapter["method"], towers["method"]] == ["adapter", "embeddings"]
    assert adapter["baseline"] == towers["baseline"]  # the task's own, whatever is compared with it
    assert adapter["baseline"]["method"] == "probe"
    assert adapter["best"]["interval"]["gain"][0] <= adapter["best"]["interval"]["gain"][1]
    counts = towers["trials"]
    assert counts["complete"] + counts["pruned"] == 4
    # The winner's own seed is run again where the search had stopped it early.
    seeds = {one["seed"] for one in towers["confirmations"]}
    assert seeds in ({1}, {0, 1})
    assert towers["best"]["validation"] >= 0.9
    assert towers["best"]["test"] >= 0.9
    assert set(towers["best"]["params"]) == {
        *("embedding", "fine_tune_embedding", "hidden_layers", "hidden_size", "hidden_dropout"),
        "training_samples",
    }


def test_every_trial_of_towers_is_an_mlflow_run_with_its_parts(finished: Path) -> None:
    runs = [
        run
        for run in trial_runs(finished / "runs", "topics")
        if "/embeddings/" in run.data.tags["adaptune.trial"]
    ]
    [_, towers] = read_json(adaptune("results", "topics", "--json", folder=finished))["tasks"]
    assert len(runs) == 4 + len(towers["confirmations"])
    assert {"train_loss", "validation_accuracy", "epoch_seconds"} <= set(runs[0].data.metrics)


def test_a_bundle_of_towers_predicts_without_the_vectors(finished: Path) -> None:
    adaptune("export", "topics", "--out", "best", folder=finished)
    (finished / "topics.vec").rename(finished / "gone.vec")
    try:
        bundle = finished / "runs" / "topics" / "bundles" / "topics" / "embeddings"
        done = adaptune("predict", bundle, "goal team win", "bank share", "--json", folder=finished)
    finally:
        (finished / "gone.vec").rename(finished / "topics.vec")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["label"] for line in lines] == ["sport", "money"]
    assert all(sum(line["scores"].values()) == pytest.approx(1) for line in lines)
    assert "A deep and a wide tower over embeddings" in (bundle / "README.md").read_text()


def test_a_bundle_of_towers_has_no_adapters_to_ablate(finished: Path) -> None:
    bundle = finished / "runs" / "topics" / "bundles" / "topics" / "embeddings"
    arguments = ("analyse", "ablation", bundle, "--input", "test.csv", "--out", "figures")
    done = adaptune(*arguments, folder=finished, check=2)
    assert (
        f"BUNDLE = {str(bundle)!r}: its method is embeddings: there are no adapters to remove" in done.stderr
    )


def test_a_report_has_towers_beside_adapters(finished: Path) -> None:
    adaptune("report", "topics", "--paper", "--out", "report", folder=finished)
    table = (finished / "report" / "table_2.csv").read_text()
    assert "ours: no encoder" in table
    assert "ours: adapters" in table
