"""Every parameter that can be searched, and its legal values."""

import math
import sys

from spaces.legal import Legal

# Optuna keeps every parameter as a double, so whole numbers need an end; a million is far off.
MILLION = 1_000_000
TINY, HUGE = sys.float_info.min, sys.float_info.max
BELOW_1 = math.nextafter(1, 0)

_ADAPTER = ("adapter",)
_ENCODER = ("adapter", "fine_tune", "top_layers", "layer_norm")
_TOWERS = ("embeddings",)
_ACTIVATIONS = ("relu", "relu6", "leaky_relu", "swish", "sigmoid", "tanh")  # of the towers

# Without methods, a parameter is for all of them.
PARAMETERS: dict[str, Legal] = {
    # bottleneck width m, in units
    "adapter_size": Legal(int, 1, MILLION, "a whole number, 1 or more", _ADAPTER),
    # how many of the encoder's layers train, from the top
    "top_layers": Legal(int, 1, 1000, "a whole number, 1 or more", ("top_layers",)),
    # the lowest layer with anything that trains; 0 is the encoder's lowest, and the paper's design
    "first_layer": Legal(int, 0, 1000, "a whole number, 0 or more", ("adapter", "layer_norm")),
    # the highest layer with adapters
    "last_layer": Legal(int, 0, 1000, "a whole number, 0 or more", _ADAPTER),
    # the peak, after the warm-up
    "learning_rate": Legal(float, TINY, HUGE, "a number above 0", _ENCODER),
    # passes over the training set
    "epochs": Legal(int, 1, MILLION, "a whole number, 1 or more", _ENCODER),
    # rows in one step
    "batch_size": Legal(int, 1, MILLION, "a whole number, 1 or more", (*_ENCODER, *_TOWERS)),
    # not on biases and layer norms
    "weight_decay": Legal(float, 0, HUGE, "a number, 0 or more", _ENCODER),
    # a fraction, of the backbone's own dropout sites
    "dropout": Legal(float, 0, BELOW_1, "a number from 0 to below 1", _ENCODER),
    # standard deviation of the adapters' first weights
    "init_std": Legal(float, TINY, HUGE, "a number above 0", _ADAPTER),
    # what the paper tried without gain (§3.6)
    "activation": Legal.text("gelu", "relu", "swish", "tanh", methods=_ADAPTER),
    "adapter_layers": Legal(int, 1, 100, "a whole number, 1 or more", _ADAPTER),
    "adapter_norm": Legal.switch(methods=_ADAPTER),
    "adapter_places": Legal.text("both", "attention", "feed_forward", methods=_ADAPTER),
    "adapter_placement": Legal.text("serial", "parallel", methods=_ADAPTER),
    # the 21 of the paper's AutoML baseline (Table 5), in its order
    "embedding": Legal.name("token_table", "sentence", methods=_TOWERS),
    "fine_tune_embedding": Legal.switch(methods=_TOWERS),
    "lowercase": Legal.switch(methods=_TOWERS),
    "strip_non_alphanumerics": Legal.switch(methods=_TOWERS),
    "convolution": Legal.switch(methods=_TOWERS),
    "convolution_activation": Legal.text(*_ACTIVATIONS, methods=_TOWERS),
    "convolution_batch_norm": Legal.switch(methods=_TOWERS),
    # the widest filter, in tokens
    "convolution_ngram": Legal(int, 1, 100, "a whole number, 1 or more", _TOWERS),
    "convolution_dropout": Legal(float, 0, BELOW_1, "a number from 0 to below 1", _TOWERS),
    # of each width
    "convolution_filters": Legal(int, 1, MILLION, "a whole number, 1 or more", _TOWERS),
    "embedding_dropout": Legal(float, 0, BELOW_1, "a number from 0 to below 1", _TOWERS),
    "hidden_layers": Legal(int, 0, 100, "a whole number, 0 or more", _TOWERS),
    "hidden_size": Legal(int, 1, MILLION, "a whole number, 1 or more", _TOWERS),
    "hidden_activation": Legal.text(*_ACTIVATIONS, methods=_TOWERS),
    "hidden_norm": Legal.text("none", "batch", "layer", methods=_TOWERS),
    "hidden_dropout": Legal(float, 0, BELOW_1, "a number from 0 to below 1", _TOWERS),
    "deep_learning_rate": Legal(float, TINY, HUGE, "a number above 0", _TOWERS),
    "deep_regularisation": Legal(float, 0, HUGE, "a number, 0 or more", _TOWERS),
    "wide_learning_rate": Legal(float, TINY, HUGE, "a number above 0", _TOWERS),
    "wide_regularisation": Legal(float, 0, HUGE, "a number, 0 or more", _TOWERS),
    # that the training sees in all, however many there are
    "training_samples": Legal(int, 1, 1000 * MILLION, "a whole number, 1 or more", _TOWERS),
    # what a text's vector is: the mean of its tokens, its first, or what the encoder's pooler makes of that
    "pooling": Legal.text("mean", "cls", "pooler", methods=("probe",)),
}


def register_parameter(name: str, legal: Legal) -> None:
    """Add a parameter that can be searched. Raises ValueError for a name that is taken."""
    if name in PARAMETERS:
        raise ValueError(f"parameter {name!r} is registered twice; rename one of them")
    PARAMETERS[name] = legal


def allow(method: str, *names: str) -> None:
    """Let a method have parameters that others have already. Raises KeyError for one that is not there."""
    for name in names:
        legal = PARAMETERS[name]
        if legal.methods and method not in legal.methods:
            PARAMETERS[name] = legal._replace(methods=(*legal.methods, method))
