"""Spaces with a name: those of Houlsby et al. 2019, each citing its section, and our default."""

from typing import NamedTuple

from spaces.conditions import Condition
from spaces.errors import FieldError, suggest
from spaces.space import Choice, Parameter, Range, Space


class Preset(NamedTuple):
    """A named space, where its values come from, and the method whose parameters it has."""

    space: Space
    description: str
    method: str = "adapter"


_PRESETS: dict[str, Preset] = {}


def register(name: str, description: str, space: Space, *, method: str = "adapter") -> Space:
    """Give a space a name. Raises ValueError for a name that is taken."""
    if name in _PRESETS:
        raise ValueError(f"preset {name!r} is registered twice; rename one of them")
    _PRESETS[name] = Preset(space, description, method)
    return space


def preset(name: str) -> Space:
    """The space of this name. Raises FieldError, naming the nearest one, where there is none."""
    if name not in _PRESETS:
        raise FieldError("space", name, "unknown preset", suggest(name, _PRESETS))
    return _PRESETS[name].space


def presets() -> dict[str, Preset]:
    """All presets by name."""
    return dict(_PRESETS)


def _space(**parameters: Parameter) -> Space:
    return Space(tuple(parameters.items()))


# What the paper sweeps together, suite by suite. What it leaves open, a space leaves out.
_GLUE_RATES, _GLUE_EPOCHS = Choice((3e-5, 3e-4, 3e-3)), Choice((3, 20))  # §3.2
_FURTHER_RATES, _FURTHER_EPOCHS = Choice((1e-5, 3e-5, 1e-4, 3e-3)), Choice((20, 50, 100))  # §3.3
_POWERS = Choice(tuple(2**n for n in range(10)))  # §3.4: 1 to 512
_RATES_AT_LARGE = Range(2e-5, 1e-3, log=True)  # appendix B

GLUE = register(
    "glue",
    "GLUE (§3.2): 3 sizes x 3 learning rates x 2 lengths, 18 in all.",
    _space(adapter_size=Choice((8, 64, 256)), learning_rate=_GLUE_RATES, epochs=_GLUE_EPOCHS),
)
register(
    "glue_64",
    "GLUE with every adapter of size 64 (§3.2): 3 learning rates x 2 lengths.",
    _space(adapter_size=Choice((64,)), learning_rate=_GLUE_RATES, epochs=_GLUE_EPOCHS),
)
register(
    "further",
    "The 17 further tasks (§3.3): 6 sizes x 4 learning rates x 3 lengths, 72 in all.",
    _space(adapter_size=Choice((2, 4, 8, 16, 32, 64)), learning_rate=_FURTHER_RATES, epochs=_FURTHER_EPOCHS),
)
register(
    "further_fine_tune",
    "The 17 further tasks, fine-tuned (§3.3): 4 learning rates x 3 lengths.",
    _space(learning_rate=_FURTHER_RATES, epochs=_FURTHER_EPOCHS),
    method="fine_tune",
)
register(
    "tradeoff",
    "Size against score (§3.4): sizes 1 to 512, each at the learning rates of GLUE.",
    _space(adapter_size=_POWERS, learning_rate=_GLUE_RATES),
)
register(
    "tradeoff_layer_norm",
    "Layer norms alone (§3.4), at the learning rates of GLUE.",
    _space(learning_rate=_GLUE_RATES),
    method="layer_norm",
)
register(
    "squad",
    "SQuAD v1.1 (§3.5): 4 learning rates x 3 lengths for each size; the sizes are those of §3.4.",
    _space(adapter_size=_POWERS, learning_rate=Choice((3e-5, 1e-4, 3e-4, 1e-3)), epochs=Choice((3, 10, 20))),
)
register(
    "squad_fine_tune",
    "SQuAD v1.1, all layers fine-tuned (§3.5): 3 learning rates x 3 lengths.",
    _space(learning_rate=Choice((3e-5, 5e-5, 1e-4)), epochs=Choice((2, 3, 5))),
    method="fine_tune",
)
register(
    "init",
    "How wide adapters start (§3.6): size 64, standard deviations from 1e-7 to 1.",
    _space(adapter_size=Choice((64,)), init_std=Range(1e-7, 1.0, log=True)),
)
register(
    "learning_rate",
    "Score at each learning rate (appendix B): 2e-5 to 1e-3, with the sizes and lengths of GLUE (§3.2).",
    _space(adapter_size=Choice((8, 64, 256)), learning_rate=_RATES_AT_LARGE, epochs=_GLUE_EPOCHS),
)
register(
    "learning_rate_fine_tune",
    "Score at each learning rate, fine-tuned (appendix B): 2e-5 to 1e-3, with the lengths of GLUE (§3.2).",
    _space(learning_rate=_RATES_AT_LARGE, epochs=_GLUE_EPOCHS),
    method="fine_tune",
)

register(
    "further_top_layers",
    "The 17 further tasks, the top n layers fine-tuned (§3.3): 8 depths x 4 learning rates x 3 lengths.",
    _space(
        top_layers=Choice((1, 2, 3, 5, 7, 9, 11, 12)), learning_rate=_FURTHER_RATES, epochs=_FURTHER_EPOCHS
    ),
    method="top_layers",
)
register(
    "tradeoff_top_layers",
    "The top k of 12 layers fine-tuned (§3.4), each at the learning rates of GLUE.",
    _space(top_layers=Choice(tuple(range(1, 13))), learning_rate=_GLUE_RATES),
    method="top_layers",
)
register(
    "squad_top_layers",
    "SQuAD v1.1, the top n of 12 layers fine-tuned (§3.5): 3 learning rates x 3 lengths for each n.",
    _space(
        top_layers=Choice(tuple(range(1, 13))),
        learning_rate=Choice((3e-5, 5e-5, 1e-4)),
        epochs=Choice((2, 3, 5)),
    ),
    method="top_layers",
)

# Size: the paper finds a flat optimum (§3.6: 86.2, 85.8, 85.7 on validation for 8, 64, 256), so sizes
# between are as good and matter by their ratio; below 8 a little is lost (§3.5: F1 89.9 at 2, 90.4 at 64).
# Rate: the three of §3.2 lie a decade apart, and the gaps are worth sampling. Epochs stay a choice: runs are
# compared at equal epochs only, since a rate that has decayed to 0 flatters the short one.
DEFAULT = register(
    "default",
    "The paper's GLUE sweep (§3.2) with the gaps filled: sizes 8 to 256 and learning rates 3e-5 to 3e-3, "
    "both log-uniform; 3 and 20 epochs, and 10 as for SQuAD (§3.5).",
    _space(
        adapter_size=Range(8, 256, log=True),
        learning_rate=Range(3e-5, 3e-3, log=True),
        epochs=Choice((3, 10, 20)),
    ),
)

# For the other methods, what `default` stands for. Fine-tuning wants lower rates than adapters (appendix B:
# its best is around 1e-4 at most), norms alone higher ones (§3.4 gives the GLUE rates; ours reach further).
_FINE_RATES = Range(1e-5, 3e-4, log=True)
register(
    "default_fine_tune",
    "What `default` is for fine_tune (§3.2, at lower rates): 1e-5 to 3e-4, log-uniform; 3, 10 and 20 epochs.",
    _space(learning_rate=_FINE_RATES, epochs=Choice((3, 10, 20))),
    method="fine_tune",
)
register(
    "default_top_layers",
    "What `default` is for top_layers (§3.4): the top 1, 2 or 3 layers; rates and lengths as for fine_tune.",
    _space(top_layers=Choice((1, 2, 3)), learning_rate=_FINE_RATES, epochs=Choice((3, 10, 20))),
    method="top_layers",
)
register(
    "default_layer_norm",
    "What `default` is for layer_norm (§3.4): learning rates 3e-4 to 3e-2, log-uniform; 3, 10 and 20 epochs.",
    _space(learning_rate=Range(3e-4, 3e-2, log=True), epochs=Choice((3, 10, 20))),
    method="layer_norm",
)

# Table 5. Table 6's modules are not ours to give: the encoder's own stand in for them, and a job's `vectors`
# come beside them. What only a convolution or a hidden layer has exists with one.
_SEQUENCE = (Condition("embedding", ("token_table",)),)
_WITH_CONVOLUTION = (Condition("convolution", (True,)),)
_WITH_HIDDEN = (Condition("hidden_layers", above=0),)
_SWITCH = (True, False)
_TOWER_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "swish", "sigmoid", "tanh")
_TOWER_RATES = Choice((0.001, 0.005, 0.01, 0.05, 0.1, 0.5))
_TOWER_WEIGHTS = Choice((0.0, 1e-4, 1e-3, 1e-2))
register(
    "no_bert",
    'The "no BERT" AutoML baseline of the 17 further tasks (§3.3, Table 5): 21 parameters of feed-forward '
    "and convolutional towers over embeddings, here the encoder's own and a job's vectors.",
    _space(
        embedding=Choice(("token_table", "sentence")),
        fine_tune_embedding=Choice(_SWITCH, _SEQUENCE),
        lowercase=Choice(_SWITCH),
        strip_non_alphanumerics=Choice(_SWITCH),
        convolution=Choice(_SWITCH, _SEQUENCE),
        convolution_activation=Choice(_TOWER_ACTIVATIONS, _WITH_CONVOLUTION),
        convolution_batch_norm=Choice(_SWITCH, _WITH_CONVOLUTION),
        convolution_ngram=Choice((2, 3), _WITH_CONVOLUTION),
        convolution_dropout=Range(0.0, 0.4, when=_WITH_CONVOLUTION),
        convolution_filters=Range(50, 200, when=_WITH_CONVOLUTION),
        embedding_dropout=Range(0.0, 0.4, when=_WITH_CONVOLUTION),
        hidden_layers=Choice((0, 1, 2, 3, 5)),
        hidden_size=Choice((64, 128, 256), _WITH_HIDDEN),
        hidden_activation=Choice(_TOWER_ACTIVATIONS, _WITH_HIDDEN),
        hidden_norm=Choice(("none", "batch", "layer"), _WITH_HIDDEN),
        hidden_dropout=Choice((0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5), _WITH_HIDDEN),
        deep_learning_rate=_TOWER_RATES,
        deep_regularisation=_TOWER_WEIGHTS,
        wide_learning_rate=_TOWER_RATES,
        wide_regularisation=_TOWER_WEIGHTS,
        training_samples=Choice((100_000, 200_000, 500_000, 1_000_000, 2_000_000)),
    ),
    method="embeddings",
)
register(
    "default_embeddings",
    "What `default` is for embeddings: the part of Table 5 (§3.3) that trains in seconds, without "
    "convolutions and fine-tuned tables, 1e5 samples each.",
    _space(
        lowercase=Choice(_SWITCH),
        strip_non_alphanumerics=Choice(_SWITCH),
        hidden_layers=Choice((0, 1, 2)),
        hidden_size=Choice((64, 128, 256), _WITH_HIDDEN),
        hidden_norm=Choice(("none", "batch", "layer"), _WITH_HIDDEN),
        hidden_dropout=Choice((0.0, 0.2, 0.4), _WITH_HIDDEN),
        deep_learning_rate=Choice((0.01, 0.05, 0.1)),
        wide_learning_rate=Choice((0.01, 0.05, 0.1, 0.5)),
        wide_regularisation=Choice((0.0, 1e-4)),
        training_samples=Choice((100_000,)),
    ),
    method="embeddings",
)

register(
    "default_probe",
    "What `default` is for probe: one linear model on the mean of each text's tokens; its strength is chosen "
    "on the training set.",
    _space(pooling=Choice(("mean",))),
    method="probe",
)
