"""The analyses by their commands: on studies filled by hand, and on a bundle of a tiny encoder."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from studies import add, create, note_winner, opened
from tiny import bundle_config, save_tiny_encoder
from typer.testing import CliRunner

from pipelines.bundle import AdapterBundle, write_bundle
from pipelines.config import TrainConfig
from pipelines.encoder.backbone import load_backbone
from pipelines.errors import InputError
from pipelines.packs.trained import initial_parameters
from search.cli.app import app
from search.errors import UserError
from search.report.ablation import ablation_files, analyse_layers, describe_layers, draw_ablation

pytestmark = pytest.mark.integration

VALUES = {"adapter_size": [8, 64, 256], "learning_rate": [1e-4, 1e-3], "init_std": [1e-4, 1e-2, 1.0]}
FINGERPRINTS = {"data_fingerprint": "rows", "backbone_fingerprint": "encoder"}


def run(*arguments):
    return CliRunner().invoke(app, ["analyse", *map(str, arguments)])


def fill(record, name, scores, *, kind="classification"):
    """A finished study: a trial for each (params, seed)."""
    task = name.split("/")[1]
    content = {"tasks": [{"name": task, "kind": kind}]}
    study = create(record, name, content=content, **FINGERPRINTS)
    for (params, seed), score in scores.items():
        add(study, [score], params=dict(params), seed=seed, values=VALUES)
    note_winner(study, 0, validation=0.9, test={"accuracy": 0.8})


def sizes(*scores):
    """Each size at two rates, the second always worse by 5 points."""
    return {
        ((("adapter_size", size), ("learning_rate", rate)), 0): score - worse
        for size, score in zip((8, 64, 256), scores, strict=False)
        for rate, worse in ((1e-4, 0.0), (1e-3, 0.05))
    }


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    with opened(folder) as record:
        fill(record, "sizes/first/adapter", sizes(0.80, 0.85, 0.83))
        fill(record, "more/second/adapter", sizes(0.90, 0.88))
        fill(record, "more/third/adapter", sizes(0.10, 0.20, 0.30), kind="regression")
        points = {(1e-4, 0): 0.70, (1e-4, 1): 0.72, (1e-2, 0): 0.71, (1e-2, 1): 0.71, (1.0, 0): 0.4}
        fill(record, "stds/first/adapter", {((("init_std", s),), seed): v for (s, seed), v in points.items()})
    return folder


def table_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_sizes_stand_beside_the_papers_with_the_best_rate_at_each(storage, tmp_path):
    done = run("size", "sizes", "more", "--storage", storage, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    head, *rows = table_of(tmp_path / "size.csv")
    assert head[3:] == ["first (accuracy)", "second (accuracy)", "third (accuracy)"]
    # The mean is over the classification tasks, and only where all of them have the size.
    assert rows == [
        ["8", "85.0", "86.2", "80.0", "90.0", "10.0"],
        ["64", "86.5", "85.8", "85.0", "88.0", "20.0"],
        ["256", "-", "85.7", "83.0", "-", "30.0"],
    ]
    assert "| 64 | 86.5 | 85.8 |" in (tmp_path / "size.md").read_text()
    assert "over 2 classification tasks" in done.output


def test_first_weights_are_drawn_with_the_spread_over_seeds(storage, tmp_path):
    done = run("init", "stds", "--storage", storage, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"init.csv", "init.png", "init.svg"}
    _, *rows = table_of(tmp_path / "init.csv")
    found = [[float(cell or "nan") for cell in row[3:7]] for row in rows]
    # .70 and .72: mean .71, deviation .01414, over the root of 2 is 1 point.
    expected = [[1e-4, 71, 70, 72], [1e-2, 71, 71, 71], [1, 40, np.nan, np.nan]]
    np.testing.assert_allclose(found, expected)


def test_learning_rates_are_drawn_with_the_best_size_at_each(storage, tmp_path):
    done = run("learning-rate", "sizes", "--storage", storage, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    _, *rows = table_of(tmp_path / "learning_rate.csv")
    assert [(float(row[3]), float(row[4])) for row in rows] == [
        (1e-4, pytest.approx(85)),
        (1e-3, pytest.approx(80)),
    ]


@pytest.mark.parametrize(
    ("analysis", "job", "message"),
    [
        ("init", "sizes", "two or more values of init_std"),
        ("size", "stds", "two or more values of adapter_size"),
        ("learning-rate", "stds", "two or more values of learning_rate"),
        ("size", "nobody", "no job 'nobody'"),
    ],
)
def test_what_the_jobs_do_not_have_is_said(storage, tmp_path, analysis, job, message):
    done = run(analysis, job, "--storage", storage, "--out", tmp_path / "out")
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()


ROWS = [("good great day", "good"), ("bad", "bad"), ("the worst printer", "bad"), ("my office", "bad")]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(str(save_tiny_encoder(tmp_path_factory.mktemp("encoder"), num_hidden_layers=3)))


def make_bundle(folder, backbone, *, labels=("bad", "good"), **facts):
    """A bundle whose adapters are far from the identity."""
    train = TrainConfig(adapter_size=4, init_std=0.5)
    config = replace(bundle_config(backbone, train), labels=labels)
    parameters = initial_parameters(backbone, train, outputs=2)
    write_bundle(folder, config, parameters, metrics={"label": "mood", **facts}, card="")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory, backbone):
    folder = tmp_path_factory.mktemp("bundle") / "toy"
    return make_bundle(folder, backbone, metric="f1", positive="good")


def write_rows(path, rows=ROWS, label="mood"):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        path.write_text(f"text,{label}\n" + "".join(f"{text},{mood}\n" for text, mood in rows))
    else:
        path.write_text("".join(json.dumps({"text": text, label: mood}) + "\n" for text, mood in rows))
    return path


def test_layers_are_ablated_on_the_rows_of_a_data_dir_by_the_bundles_own_metric(bundle, tmp_path):
    write_rows(tmp_path / "data" / "toy" / "validation.jsonl")
    done = run("ablation", bundle, "--data-dir", tmp_path / "data", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "toy: f1 " in done.output
    head, *rows = table_of(tmp_path / "out" / "ablation.csv")
    assert head == ["first_layer", "last_layer", "f1", "points_of_100_minus_full"]
    assert [row[:2] for row in rows] == [[a, b] for a in "012" for b in "012" if a <= b]
    said = [one.label for one in AdapterBundle.load(bundle).predict([text for text, _ in ROWS])]
    hits = sum(found == true == "good" for found, (_, true) in zip(said, ROWS, strict=True))
    full = 2 * hits / (said.count("good") + 1)  # F1 of "good", which one row has
    assert float(rows[0][2]) - float(rows[0][3]) / 100 == pytest.approx(full)
    assert (tmp_path / "out" / "ablation.png").read_bytes().startswith(b"\x89PNG")


def test_the_heat_map_has_the_first_layer_down_and_the_last_across(bundle, tmp_path):
    found = analyse_layers(bundle, source=write_rows(tmp_path / "rows.jsonl"))
    axes = draw_ablation(found).axes[0]
    drawn = np.ma.getdata(axes.images[0].get_array())
    for (first, last), score in found.ablation.scores.items():
        assert drawn[first, last] == pytest.approx(100 * (score - found.ablation.full))
    assert np.isnan(drawn[2, 0])
    assert (axes.get_xlabel(), axes.get_ylabel()) == (
        "last layer without adapters",
        "first layer without adapters",
    )


def test_a_metric_that_is_not_in_points_is_shown_as_it_is_and_the_worst_layer_raises_it(backbone, tmp_path):
    folder = make_bundle(tmp_path / "toy", backbone, metric="log_loss")
    source = write_rows(tmp_path / "rows.jsonl")
    found = analyse_layers(folder, source=source)
    head, *rows = list(csv.reader(ablation_files(found)["ablation.csv"].decode().splitlines()))
    assert head == ["first_layer", "last_layer", "log_loss", "log_loss_minus_full"]
    for row in rows:
        assert float(row[2]) - float(row[3]) == pytest.approx(found.ablation.full)
    singles = {layer: found.ablation.scores[layer, layer] for layer in range(3)}
    worst = max(singles, key=lambda layer: singles[layer])
    lines = describe_layers(found)
    assert lines[0].startswith(f"toy: log_loss {found.ablation.full:.4f} with all adapters")
    assert lines[1] == (
        f"without one layer's: {singles[worst] - found.ablation.full:+.4f} at most (layer {worst})"
    )
    assert not any("points" in line for line in lines)
    heat, bar = draw_ablation(found).axes
    assert bar.get_ylabel() == "log_loss minus the full model's"
    assert heat.images[0].norm.vmin == 0  # more of it is worse


@pytest.mark.parametrize("written", ["0", "0.0", "0.00"])
def test_whole_numbers_are_the_bundles_classes_in_any_form(backbone, tmp_path, written):
    folder = make_bundle(tmp_path / "toy", backbone, labels=("0", "1"))
    source = write_rows(tmp_path / "rows.csv", [("good day", written), ("bad day", "1.0")])
    assert analyse_layers(folder, source=source).majority == 0.5


def test_a_bundle_of_an_unknown_metric_is_refused_by_its_folder(backbone, tmp_path):
    folder = make_bundle(tmp_path / "toy", backbone, metric="spearman")
    with pytest.raises(InputError, match="its metric 'spearman' scores no classification here") as caught:
        analyse_layers(folder, source=write_rows(tmp_path / "rows.jsonl"))
    assert caught.value.value == str(folder)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS, ["--data-dir", "data"], "one of the two"),
        ([("x", "ugly")], [], "the label 'ugly' of row 1"),
        ([("", "good")], [], "row 1 has no text"),
        ([*ROWS, ("half \ud83d", "good")], [], "row 5 has half a character (a lone surrogate)"),
        ([("half", "good\ud83d")], [], "row 1 has half a character (a lone surrogate)"),
        (ROWS, ["--label", "moot"], "mood"),
    ],
)
def test_rows_that_cannot_be_scored_are_refused(bundle, tmp_path, rows, options, message):
    done = run("ablation", bundle, "--input", write_rows(tmp_path / "rows.jsonl", rows), *options)
    assert isinstance(done.exception, ValueError | UserError)
    assert message in str(done.exception)
