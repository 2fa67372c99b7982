"""A part of the grid with the stock stack, to be multiplied: the peer of end_to_end.py.

Ray Tune's grid, `adapters` with Hugging Face's Trainer, Ray's MLflow callback; one trial for each adapter
size, of a few epochs. Runs in the peers' environment. Settings as JSON in; one JSON line per trial out.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

import ray
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from transformers import TrainerCallback


class Reporter(TrainerCallback):
    """Reports after each validation; an epoch's seconds run from one report to the next."""

    def __init__(self, began):
        self.began = began
        self.seconds = []

    def on_train_begin(self, args, state, control, **kwargs):
        now = time.perf_counter()
        self.setup, self.at = now - self.began, now

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        # Saving comes after this: it is in the next epoch's seconds.
        now = time.perf_counter()
        self.seconds.append(now - self.at)
        self.at = now
        tune.report({"accuracy": metrics["eval_accuracy"], "setup": self.setup, "seconds": self.seconds})


def trial(config):
    began = time.perf_counter()
    from train_adapters import make_trainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(config, folder)
        trainer.add_callback(Reporter(began))
        trainer.train()


def main(settings):
    sizes = settings.pop("adapter_sizes")
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            uri = f"sqlite:///{folder}/mlflow.db"
            results = tune.Tuner(
                tune.with_resources(trial, {"cpu": settings["threads"]}),
                param_space={**settings, "adapter_size": tune.grid_search(sizes)},
                run_config=tune.RunConfig(
                    name="grid",
                    storage_path=str(Path(folder, "tune")),
                    callbacks=[MLflowLoggerCallback(tracking_uri=uri, experiment_name="grid")],
                    verbose=0,
                ),
            ).fit()
            for result in results:
                if result.error:
                    raise result.error
                line = {key: result.metrics[key] for key in ("accuracy", "setup", "seconds")}
                print(json.dumps({"adapter_size": result.config["adapter_size"], **line}), flush=True)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
