import html
import re

import numpy as np
import pytest
from studies import add, create, opened

from pipelines.tasks.labelled_rows import Examples
from pipelines.tasks.rows import TaskData
from pipelines.tasks.task import Task
from search.card import model_card
from search.job.job import SearchJob
from search.record import Leader

SPACE = {"adapter_size": [8, 64], "learning_rate": {"low": 3e-5, "high": 3e-3, "log": True}, "epochs": 3}


@pytest.fixture
def record(tmp_path):
    with opened(tmp_path) as record:
        yield record


def examples(rows, columns=1):
    return Examples(texts=tuple(("x",) * columns for _ in range(rows)), labels=np.zeros(rows, dtype=np.int64))


def card(
    record,
    *,
    labels=("ham", "spam"),
    text=("body",),
    label="label",
    kind="classification",
    leaders=(),
    **changes,
):
    study = create(record)
    add(study, [0.5], trained=10)
    number = add(
        study,
        [0.6, 0.9, 0.8],
        trained=31,
        params={"adapter_size": 64, "learning_rate": 1e-3, "epochs": 3},
    )
    files = {"train": "/data/train.csv"}
    job = SearchJob.parse(
        {
            "name": "tickets",
            "backbone": "bert-base-uncased",
            "tasks": [{"name": "task", "files": files, "kind": kind, "text": list(text), "label": label}],
            "space": SPACE,
            "search": {"trials": 7, "sampler": "random"},
            **changes,
        }
    )
    data = TaskData(
        task=Task(name="task", text=text, label=label, kind=kind),
        labels=labels,
        train=examples(1600),
        validation=examples(200),
        test=examples(100),
        notes=("train: 3 rows without a label left out",),
        fingerprint="0" * 64,
    )
    return model_card(study, study.trials()[number], job, data, leaders).fill("accuracy 0.8500")


def table(text, heading):
    """A two-column table of the card as a dictionary."""
    lines = text.split(f"| parameter | {heading} |")[1].strip().splitlines()[1:]
    rows = [re.fullmatch(r"\| (.+?) \| (.+?) \|", line) for line in lines]
    return dict(row.groups() for row in rows[: rows.index(None)])


def test_the_card_tells_which_trial_and_epoch_and_their_scores(record):
    text = card(record)
    assert "job `tickets`, trial 1 of 2" in text
    assert "validation: accuracy 0.9000, f1 0.4500 (epoch 2; chose this trial by accuracy)" in text


def test_the_card_of_a_refit_in_folds_says_what_was_trained_and_what_its_scores_are_over(record):
    text = card(record, split={"folds": 5})
    assert "f1 0.4500 (over 5 folds, each row by a model that was not trained on it; epoch 2; chose" in text
    assert "1,600 examples in 5 folds and 100 test examples. This adapter was trained on all but" in text
    assert "for 2 epoch(s)." in text
    assert " folds" not in card(record)


def test_the_card_names_the_configurations_that_cannot_be_told_apart_from_the_winner(record):
    leaders = (Leader(1, (0,), 0.9, told_apart=False), Leader(0, (0, 1), 0.5, told_apart=False))
    text = card(record, leaders=leaders)
    assert "(read once, after the choice)\n- on validation it cannot be told apart from the" in text
    assert re.search(r"other leading configuration: trial 0 \(.*\) 0.5000 over 2 seeds\n\nTrained", text)
    assert "told apart" not in card(record)


def test_the_test_scores_are_filled_in_at_their_place_and_nowhere_else(record):
    text = card(record, labels=("{test}", "{scores}", "$test"))
    assert "- test: accuracy 0.8500 (read once, after the choice)" in text
    assert text.count("0.8500") == 1
    assert "Labels: {test}, {scores}, \\$test." in text


@pytest.mark.integration
@pytest.mark.parametrize(
    "label", ["<img src=x>", "[a](https://b)", "*a*", "`a`", "_a_", "a|b", "~~a~~", "\\", "&lt;"]
)
def test_a_label_is_shown_as_it_is_and_never_as_markdown(record, label):
    text = card(record, labels=(label, "spam"))
    assert f"Labels: {label}, spam." not in text
    (line,) = [line for line in text.splitlines() if "Labels: " in line]
    shown = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", line.split("Labels: ")[1]))
    assert shown == f"{label}, spam."


def test_a_labels_line_ends_and_escape_sequences_do_nothing_in_the_card(record):
    text = card(record, labels=("\n# Owned\n", "\x1b[2J"))
    assert "Labels: # Owned, \\\\x1b\\[2J." in text


def test_the_card_counts_what_was_trained_against_the_encoder(record):
    assert "Trained parameters: 31, 3.10% of the encoder's" in card(record)


def test_the_card_tells_the_data_and_what_was_done_to_it(record):
    text = card(record)
    assert "1,600 training, 200 validation and 100 test examples" in text
    assert "- train: 3 rows without a label left out" in text
    assert "Labels: ham, spam." in text


def test_the_card_tells_the_space_and_the_choice(record):
    text = card(record)
    assert table(text, "searched") == {
        "adapter_size": "8, 64",
        "learning_rate": "3e-05 to 0.003, logarithmic",
        "epochs": "3",
    }
    assert table(text, "value") == {"adapter_size": "64", "learning_rate": "0.001", "epochs": "3"}
    assert "Sampler random, 7 trials, seed 0" in text


def test_the_card_of_a_regression_has_no_labels(record):
    text = card(record, labels=(), kind="regression")
    assert "Predicts a number." in text
    assert "Labels:" not in text


def test_the_card_of_spans_tells_what_it_takes_and_gives(record):
    text = card(record, labels=(), kind="span", text=("question", "context"), label="answers_text")
    assert "Answers a question with a piece of a given text." in text
    assert 'bundle.predict([("Who wrote it?", "It was written by Ada.")])' in text
    assert "Labels:" not in text


@pytest.mark.parametrize(("text", "example"), [(("body",), '["some text"]'), (("a", "b"), '[("first text",')])
def test_the_cards_example_can_be_run_on_this_task(record, text, example):
    shown = card(record, text=text)
    code = shown.split("```python\n")[1].split("```")[0]
    compile(code, "card", "exec")
    assert f"bundle.predict({example}" in code


def test_the_card_of_a_pair_tells_to_give_a_file(record):
    assert "adaptune predict path/to/this/folder --input" in card(record, text=("premise", "hypothesis"))
