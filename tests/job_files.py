"""The least job files."""

from search.job.job import SearchJob

LEAST = {"name": "tickets", "backbone": "bert-base-uncased", "tasks": ["glue_cola"]}
OWN = {"name": "own", "files": {"train": "train.csv"}}


def job(**changes):
    return SearchJob.parse({**LEAST, **changes})
