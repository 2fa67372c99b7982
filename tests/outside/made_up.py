"""One made-up thing of each sort, as a package of somebody else would bring them. Free of torch to import."""

import json
from dataclasses import replace

import numpy as np


def register() -> None:
    """Enter them into the tables; all but the encoder."""
    from pipelines.kinds import register_kind
    from pipelines.kinds.classification import Classification
    from pipelines.method import METHODS, register
    from pipelines.metrics import Metric, register_metric
    from pipelines.packs.method import EncoderMethod
    from pipelines.tasks.readers import READERS

    class Moods(Classification):
        """A class for each text, by another name."""

        name = "moods"

        def describe(self, labels):
            return f"Tells moods: {', '.join(labels)}."

    register_kind(Moods())
    register_metric(Metric(name="confidence", kinds=("moods",), of="probabilities", function=confidence))
    register(
        EncoderMethod(
            name="head_only",
            card="A head alone, made up",
            label="head only",
            legend="head only",
            colour="#000000",
            marker="x",
            parts=no_parts,
        )
    )
    assert "head_only" in METHODS
    READERS[".made"] = read_made


def confidence(targets, predictions):
    """The mean probability of the right class."""
    return np.mean(predictions[np.arange(len(targets)), targets])


def no_parts(backbone, config):
    from pipelines.packs.trained import Trained

    return Trained(0, norms=())


def read_made(path, wanted, key):
    """A JSON list of [text, label], its columns' names first."""
    names, *rows = json.loads(path.read_text())
    return tuple([row[names.index(name)] for row in rows] for name in wanted)


def register_encoder() -> None:
    """An encoder of an architecture of its own: BERT under another name."""
    from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer

    from pipelines.encoder.architectures import ARCHITECTURES

    class MadeUpConfig(BertConfig):
        model_type = "made-up"

    class MadeUpModel(BertModel):
        config_class = MadeUpConfig

    AutoConfig.register("made-up", MadeUpConfig)
    AutoModel.register(MadeUpConfig, MadeUpModel)
    AutoTokenizer.register(MadeUpConfig, slow_tokenizer_class=BertTokenizer)
    ARCHITECTURES["made-up"] = replace(ARCHITECTURES["bert"])
