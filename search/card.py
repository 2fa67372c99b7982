"""The model card that goes into a bundle."""

from pipelines.kinds import Data
from pipelines.method import find_method
from search.job.job import SearchJob
from search.study import Study, TrialRecord
from search.tables import format_values


def model_card(study: Study, best: TrialRecord, job: SearchJob, data: Data) -> str:
    """The card as Markdown. `{test}` is left for the test scores, which are not known yet."""
    searched = job.space_for(study.method).to_dict()
    space = "\n".join(f"| {name} | {format_values(values)} |" for name, values in searched.items())
    params = "\n".join(f"| {name} | {value} |" for name, value in best.params.items())
    trained = int(best.facts["trained_parameters"])
    fraction = trained / int(study.attributes["backbone_parameters"])
    validation = ", ".join(
        f"{name} {value:.4f}" for name, value in best.epochs[(best.best_epoch or 1) - 1]["scores"].items()
    )
    predicts = {
        "classification": f"Labels: {', '.join(data.labels)}.",
        "regression": "Predicts a number.",
        "span": "Answers a question with a piece of a given text.",
    }[data.task.kind]
    given = "--input pairs.jsonl" if len(data.task.text) == 2 else '"some text"'
    example = '("first text", "second text")' if len(data.task.text) == 2 else '"some text"'
    if data.task.kind == "span":
        example = '("Who wrote it?", "It was written by Ada.")'
    trains = find_method(study.method).card
    notes = "".join(f"- {note}\n" for note in data.notes)
    return f"""# Adapter for {study.task}

{trains} for the frozen encoder `{job.backbone}`, found by adaptune
(job `{job.name}`, trial {best.number} of {len(study.trials())}). {predicts}

## Scores

- validation: {validation} (epoch {best.best_epoch}; chose this trial by {study.attributes["metric"]})
- test: {{test}} (read once, after the choice)

Trained parameters: {trained:,}, {fraction:.2%} of the encoder's.

## Data

{len(data.train):,} training, {len(data.validation):,} validation and {len(data.test):,} test examples.
{notes}
## Search

| parameter | searched |
|---|---|
{space}

Sampler {job.search.sampler}, {job.search.trials} trials, seed {best.seed}. Chosen:

| parameter | value |
|---|---|
{params}

## Use

```python
from pipelines import AdapterBundle

bundle = AdapterBundle.load("path/to/this/folder")
print(bundle.predict([{example}]))
```

or `adaptune predict path/to/this/folder {given}`. The encoder is not in here: it is loaded from
`{job.backbone}` and refused if its weights, config or tokenizer are not those this adapter was trained on.
"""
