"""The model card that goes into a bundle."""

import json

from pipelines.method import find_method
from pipelines.tasks.rows import TaskData
from search.job.job import SearchJob
from search.study import Study, TrialRecord
from search.tables import format_values


def model_card(study: Study, best: TrialRecord, job: SearchJob, data: TaskData) -> str:
    """The card as Markdown. `{test}` is left for the test scores, which are not known yet."""
    searched = job.space_for(study.method).to_dict()
    space = "\n".join(f"| {name} | {format_values(values)} |" for name, values in searched.items())
    params = "\n".join(f"| {name} | {value} |" for name, value in best.params.items())
    trained = int(best.facts["trained_parameters"])
    fraction = trained / int(study.attributes["backbone_parameters"])
    validation = ", ".join(
        f"{name} {value:.4f}" for name, value in best.epochs[(best.best_epoch or 1) - 1]["scores"].items()
    )
    columns = data.task.text
    texts = data.rules.example(len(columns))
    quoted = ", ".join(json.dumps(text) for text in texts)
    example, given = (quoted, quoted) if len(texts) == 1 else (f"({quoted})", "--input pairs.jsonl")
    notes = "".join(f"- {note}\n" for note in data.notes)
    return f"""# Adapter for {study.task}

{find_method(study.method).card} for the frozen encoder `{job.backbone}`, found by adaptune
(job `{job.name}`, trial {best.number} of {len(study.trials())}). {data.rules.describe(data.labels)}

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
