"""The model card that goes into a bundle."""

from pipelines.kinds import Data
from search.job.job import SearchJob
from search.record import Trial
from search.study import Study
from search.tables import format_values

_KINDS = {
    "adapter": "A bottleneck adapter",
    "fine_tune": "A fine-tuned copy of all weights",
    "top_layers": "Fine-tuned top layers",
    "layer_norm": "Trained layer norms and a head",
    "embeddings": "A deep and a wide tower over embeddings",
}


def model_card(study: Study, best: Trial, job: SearchJob, data: Data) -> str:
    """The card as Markdown. `{test}` is left for the test scores, which are not known yet."""
    searched = job.space_for(study.method).to_dict()
    space = "\n".join(f"| {name} | {format_values(values)} |" for name, values in searched.items())
    params = "\n".join(f"| {name} | {value} |" for name, value in best.params.items())
    if best.best is None:
        raise ValueError(f"trial {best.number} has no score")
    fraction = best.size / study.facts.backbone_parameters
    validation = ", ".join(f"{name} {value:.4f}" for name, value in best.best.scores.items())
    predicts = {
        "classification": f"Labels: {', '.join(data.labels)}.",
        "regression": "Predicts a number.",
        "span": "Answers a question with a piece of a given text.",
    }[data.task.kind]
    given = "--input pairs.jsonl" if len(data.task.text) == 2 else '"some text"'
    example = '("first text", "second text")' if len(data.task.text) == 2 else '"some text"'
    if data.task.kind == "span":
        example = '("Who wrote it?", "It was written by Ada.")'
    notes = "".join(f"- {note}\n" for note in data.notes)
    return f"""# Adapter for {study.task}

{_KINDS[study.method]} (Houlsby et al. 2019) for the frozen encoder `{job.backbone}`, found by adaptune
(job `{job.name}`, trial {best.number} of {len(study.trials())}). {predicts}

## Scores

- validation: {validation} (epoch {best.best_epoch}; chose this trial by {study.facts.metric})
- test: {{test}} (read once, after the choice)

Trained parameters: {best.size:,}, {fraction:.2%} of the encoder's.

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
