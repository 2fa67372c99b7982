"""The model card that goes into a bundle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipelines.method import find_method
from pipelines.tasks.rows import TaskData
from search.decisions.confirmation import Spread
from search.escapes import code_span, escape_markdown
from search.job.job import SearchJob
from search.record import Baseline, Intervals, Leader, Trial
from search.study import Study
from search.tables import describe_leaders, format_values
from search.verdict import verdict


@dataclass(frozen=True)
class ModelCard:
    """A card in Markdown, in two parts: between them stand the test scores, which are not known yet."""

    before: str
    after: str

    def fill(self, scores: str, certainty: str = "") -> str:
        """The whole card.

        Args:
            certainty: lines on how sure the scores are.
        """
        return f"{self.before}{scores} (read once, after the choice)\n{certainty}{self.after}"


def model_card(
    study: Study, best: Trial, job: SearchJob, data: TaskData, leaders: Sequence[Leader] = ()
) -> ModelCard:
    """The card of a study's winner. What users chose (labels, notes on their rows, paths) is escaped.

    Args:
        leaders: as `Winner.leaders`.
    """
    searched = job.space_for(study.method).to_dict()
    space = _table_rows({name: format_values(values) for name, values in searched.items()})
    params = _table_rows(best.params)
    if best.best is None:
        raise ValueError(f"trial {best.number} has no score")
    fraction = best.size / study.facts.backbone_parameters
    validation = ", ".join(f"{name} {value:.4f}" for name, value in best.best.scores.items())
    predicts = data.rules.describe(tuple(escape_markdown(label) for label in data.labels))
    columns = data.task.text
    texts = data.rules.example(len(columns))
    quoted = ", ".join(json.dumps(text) for text in texts)
    example, given = (quoted, quoted) if len(texts) == 1 else (f"({quoted})", "--input pairs.jsonl")
    notes = "".join(f"- {escape_markdown(note)}\n" for note in data.notes)
    backbone = code_span(job.backbone)
    over, rows = "", f"{len(data.train):,} training, {len(data.validation):,} validation"
    if job.split.folds:
        over = f"over {job.split.folds} folds, each row by a model that was not trained on it; "
        rows = f"{len(data.train):,} examples in {job.split.folds} folds"
    again = ""
    if job.refits:
        again = f" This adapter was trained on all but the test examples, for {best.best_epoch} epoch(s)."
    before = f"""# Adapter for {study.task}

{find_method(study.method).card} for the frozen encoder {backbone}, found by adaptune
(job `{job.name}`, trial {best.number} of {len(study.trials())}). {predicts}

## Scores

- validation: {validation} ({over}epoch {best.best_epoch}; chose this trial by {study.facts.metric})
- test: """
    others = {leader.trial: study.trials()[leader.trial].params for leader in leaders}
    words = describe_leaders(leaders, others, best.params)
    apart = f"- {escape_markdown(words)}\n" if words else ""
    after = f"""{apart}
Trained parameters: {best.size:,}, {fraction:.2%} of the encoder's.

## Data

{rows} and {len(data.test):,} test examples.{again}
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
{backbone} and refused if its weights, config or tokenizer are not those this adapter was trained on.
"""
    return ModelCard(before, after)


def _table_rows(cells: Mapping[str, object]) -> str:
    return "\n".join(f"| {name} | {escape_markdown(str(value))} |" for name, value in cells.items())


def describe_scores(scores: Mapping[int, Mapping[str, Mapping[str, float]]], winner: int) -> str:
    """The winner's scores, and where it was confirmed, those over its seeds.

    Args:
        scores: by trial, set and metric.
    """
    shown = []
    for name, values in scores[winner].items():
        line = ("" if name == "test" else f"{name} ") + ", ".join(
            f"{key} {value:.4f}" for key, value in values.items()
        )
        if len(scores) > 1:
            spreads = {key: Spread.of([sets[name][key] for sets in scores.values()]) for key in values}
            line += f"; over {len(scores)} seeds: " + ", ".join(f"{key} {s}" for key, s in spreads.items())
        shown.append(line)
    return "; ".join(shown)


def describe_certainty(
    test: Mapping[str, float], metric: str, intervals: Intervals | None, baseline: Baseline | None
) -> str:
    """Lines of the card: the intervals, and what the winner is worth beside the baseline."""
    if intervals is None:
        return ""
    lines = [
        f"95 % interval of {metric} on {name}: {ends[0]:.4f} to {ends[1]:.4f}"
        for name, ends in (("validation", intervals.validation), ("test", intervals.test))
        if ends is not None
    ]
    if baseline is not None:
        if said := verdict(metric, test[metric], baseline, intervals.gain):
            lines.append(f"{metric} on test: {said}")
        lines.append(f"the same answer for every text would have {baseline.majority:.4f}")
    return "".join(f"- {line}\n" for line in lines)
