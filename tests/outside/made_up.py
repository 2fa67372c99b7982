"""One made-up thing of each sort, as a package of somebody else would bring them. Free of torch to import."""

import json
from typing import Annotated

import numpy as np


def register_all() -> None:
    """Enter them into the tables."""
    register_task_things()
    register_method()
    register_decisions()
    register_shown()


def register_task_things() -> None:
    """A kind, a metric and a data format."""
    from pipelines.kinds import register_kind
    from pipelines.kinds.classification import Classification
    from pipelines.metrics import Metric, register_metric
    from pipelines.tasks.readers import READERS

    class Moods(Classification):
        """A class for each text, by another name."""

        name = "moods"

        def describe(self, labels):
            return f"Tells moods: {', '.join(labels)}."

    register_kind(Moods())
    register_metric(Metric(name="confidence", kinds=("moods",), of="probabilities", function=confidence))
    READERS[".made"] = read_made


def confidence(targets, predictions):
    """The mean probability of the right class."""
    return np.mean(predictions[np.arange(len(targets)), targets])


def read_made(path, wanted, key):
    """A JSON list of rows, its columns' names first."""
    names, *rows = json.loads(path.read_text())
    return tuple([row[names.index(name)] for row in rows] for name in wanted)


def register_method() -> None:
    """A method: the head alone trains."""
    from pipelines.method import register
    from pipelines.packs.method import EncoderMethod
    from spaces.parameters import allow

    register(
        EncoderMethod(
            name="made_up_head",
            card="A head alone (nobody 2026)",
            label="made-up heads",
            legend="made-up heads",
            colour="#000000",
            marker="x",
            parts=no_parts,
        )
    )
    allow("made_up_head", "learning_rate", "epochs")


def no_parts(backbone, config):
    from pipelines.packs.trained import Trained

    return Trained(0)


def register_decisions() -> None:
    """A sampler and a scheduler."""
    from optuna.samplers import RandomSampler

    from search.decisions.samplers import Sampler, register_sampler
    from search.decisions.schedulers import Scheduler, register_scheduler

    class Dice(Sampler):
        name, title = "dice", "dice"
        spread = False

        def make(self, seed, *, conditional):
            return RandomSampler(seed=seed)

    class Strict(Scheduler):
        """Only trial 0 trains more than one epoch."""

        name = "strict"

        def stop_reason(self, trial, trials):
            return f"trial {trial.number} is not the first" if trial.number else None

    register_sampler(Dice())
    register_scheduler(Strict())


def register_shown() -> None:
    """A figure of the report, a metric and a tag in MLflow, a command."""
    import typer

    from search.cli.app import app
    from search.cli.terminal import Name, StorageOption, open_storage, out
    from search.report.curves import FIGURES
    from search.tracking.shown import EPOCH_METRICS, TRIAL_TAGS

    FIGURES.append(epochs_figure)
    EPOCH_METRICS["made_up_squares"] = lambda epoch: float(epoch.epoch**2)
    TRIAL_TAGS["made_up_parity"] = lambda trial: "odd" if trial.number % 2 else "even"
    commands = typer.Typer()

    @commands.command()
    def count(
        name: Name,
        storage: StorageOption = None,
        twice: Annotated[bool, typer.Option("--twice")] = False,
    ) -> None:
        """Count a job's trials."""
        from search.results import read_results

        (task,) = read_results(name, open_storage(storage))["tasks"]
        out.print(sum(task["trials"].values()) * (2 if twice else 1))

    app.add_typer(commands)


def epochs_figure(tasks):
    """How many configurations each task has had, by method."""
    from search.report.series import Curve, FigureData, Mark, Panel

    curves = tuple(
        Curve(method, method, (Mark(1.0, float(len(runs.configurations)), None, None, 1, "all"),))
        for methods in tasks.values()
        for method, runs in methods.items()
    )
    panel = Panel("configurations", "how many", curves)
    return FigureData(
        "figure_made_up", "Made up: configurations", "x", (panel,), banded=False, caption="None."
    )
