"""The table of methods: what can train. A method is a row here, and a module that says what it trains.

`pipelines` imports this, so that the rows are there whoever asks. A package of its own registers its row with
`pipelines.method.register`.
"""

from typing import TYPE_CHECKING

from pipelines.config import TrainConfig
from pipelines.method import register
from pipelines.packs.method import EncoderMethod
from pipelines.probe.method import ProbeMethod
from pipelines.towers.method import TowerMethod

if TYPE_CHECKING:  # torch takes seconds to import
    from pipelines.encoder.backbone import Backbone
    from pipelines.packs.trained import Trained


def _adapters(backbone: "Backbone", config: TrainConfig) -> "Trained":
    from pipelines.packs.adapter import adapters

    return adapters(backbone, config)


def _all_weights(backbone: "Backbone", config: TrainConfig) -> "Trained":
    from pipelines.packs.weights import all_weights

    return all_weights(backbone, config)


def _top_weights(backbone: "Backbone", config: TrainConfig) -> "Trained":
    from pipelines.packs.weights import top_weights

    return top_weights(backbone, config)


def _layer_norms(backbone: "Backbone", config: TrainConfig) -> "Trained":
    from pipelines.packs.weights import layer_norms

    return layer_norms(backbone, config)


# Colours that the colour-blind tell apart (Okabe and Ito): orange, blue and green as in the paper.
ADAPTER = register(
    EncoderMethod(
        name="adapter",
        card="A bottleneck adapter (Houlsby et al. 2019)",
        label="adapters",
        legend="adapters",
        colour="#D55E00",
        marker="o",
        size="adapter_size",
        parts=_adapters,
        also_sizeless=frozenset({"init_std"}),
        removable=True,
    )
)
FINE_TUNE = register(
    EncoderMethod(
        name="fine_tune",
        card="A fine-tuned copy of all weights (Houlsby et al. 2019)",
        label="fine-tuning",
        legend="full fine-tuning",
        colour="#0072B2",
        marker="D",
        keeps="encoders",
        whole_weights=True,
        parts=_all_weights,
    )
)
TOP_LAYERS = register(
    EncoderMethod(
        name="top_layers",
        card="Fine-tuned top layers (Houlsby et al. 2019)",
        label="variable fine-tuning",
        legend="fine-tuning, top layers to all",
        colour="#0072B2",
        marker="s",
        size="top_layers",
        whole_weights=True,
        parts=_top_weights,
    )
)
LAYER_NORM = register(
    EncoderMethod(
        name="layer_norm",
        card="Trained layer norms and a head (Houlsby et al. 2019)",
        label="layer norms only",
        legend="layer norms only",
        colour="#009E73",
        marker="^",
        parts=_layer_norms,
    )
)
EMBEDDINGS = register(
    TowerMethod(
        name="embeddings",
        card="A deep and a wide tower over embeddings (Houlsby et al. 2019)",
        label="no encoder",
        legend="no encoder",
        colour="#CC79A7",
        marker="v",
        keeps="no encoder",
        packed=False,
        reads_vectors=True,
        reads_places=False,
    )
)
PROBE = register(
    ProbeMethod(
        name="probe",
        card="A regularised linear model on the frozen encoder's vectors (a linear probe)",
        label="linear probe",
        legend="linear probe",
        colour="#56B4E9",
        marker="P",
        packed=False,
        seeded=False,
        reads_places=False,
    )
)
