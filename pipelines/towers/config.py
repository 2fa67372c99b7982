"""The configuration of the method `embeddings`: the 21 parameters of Houlsby et al. 2019, Table 5."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pipelines.errors import InputError

METHOD = "embeddings"
TOKEN_TABLE, SENTENCE = "token_table", "sentence"  # the encoder's own embedding modules
PARTS = 6  # of the training samples; after each the towers are validated
ACTIVATIONS = ("relu", "relu6", "leaky_relu", "swish", "sigmoid", "tanh")
NORMS = ("none", "batch", "layer")
_SEQUENCE_FIX = "Give it a condition, e.g. when: {{embedding: token_table}}, or leave {} out."


@dataclass(frozen=True, kw_only=True)
class EmbeddingConfig:
    """A deep tower over pre-trained embeddings beside a wide one over the text's tokens.

    The paper has no single values, so the defaults are ours: small towers that train in a second.

    Raises:
        ValueError: a value is outside its range.
        InputError: the embedding has no sequence of vectors, and one is needed.
    """

    epochs: ClassVar[int] = PARTS  # what the rest of the service calls them

    method: str = METHOD
    embedding: str = TOKEN_TABLE  # or SENTENCE, or the name of word vectors
    fine_tune_embedding: bool = False
    lowercase: bool = True
    strip_non_alphanumerics: bool = False
    convolution: bool = False
    convolution_activation: str = "relu"
    convolution_batch_norm: bool = False
    convolution_ngram: int = 3  # the widest; there are filters of each width from 1
    convolution_dropout: float = 0.0
    convolution_filters: int = 100  # of each width
    embedding_dropout: float = 0.0  # before the convolution
    hidden_layers: int = 1
    hidden_size: int = 128
    hidden_activation: str = "relu"
    hidden_norm: str = "none"
    hidden_dropout: float = 0.0
    deep_learning_rate: float = 0.05
    deep_regularisation: float = 0.0  # times half the squared norm of the weights
    wide_learning_rate: float = 0.05
    wide_regularisation: float = 0.0
    training_samples: int = 100_000  # seen in all, however many there are
    batch_size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        fractions = ("convolution_dropout", "embedding_dropout", "hidden_dropout")
        at_least_one = (
            "convolution_ngram",
            "convolution_filters",
            "hidden_size",
            "training_samples",
            "batch_size",
        )
        rules = {
            "method": self.method == METHOD,
            "embedding": bool(self.embedding),
            "convolution_activation": self.convolution_activation in ACTIVATIONS,
            "hidden_activation": self.hidden_activation in ACTIVATIONS,
            "hidden_norm": self.hidden_norm in NORMS,
            "hidden_layers": 0 <= self.hidden_layers <= 100,
            "deep_learning_rate": self.deep_learning_rate > 0,
            "deep_regularisation": self.deep_regularisation >= 0,
            "wide_learning_rate": self.wide_learning_rate > 0,
            "wide_regularisation": self.wide_regularisation >= 0,
            "seed": self.seed >= 0,
            **{name: 0 <= getattr(self, name) < 1 for name in fractions},
            **{name: getattr(self, name) >= 1 for name in at_least_one},
        }
        bad = {key: getattr(self, key) for key, holds in rules.items() if not holds}
        if bad:
            raise ValueError(f"out of range: {bad}")
        for key in ("convolution", "fine_tune_embedding"):
            if self.embedding == SENTENCE and getattr(self, key):
                rule = "the embedding `sentence` is one frozen vector of a text"
                raise InputError(key, True, rule, _SEQUENCE_FIX.format(key))

    @property
    def reading(self) -> tuple[bool, bool]:
        """What is done to a text first: lower-cased, and stripped of all but letters and digits."""
        return self.lowercase, self.strip_non_alphanumerics

    @property
    def batch_norm(self) -> bool:
        """Whether what a text gives in training depends on the others of its batch."""
        return (self.convolution and self.convolution_batch_norm) or (
            self.hidden_layers > 0 and self.hidden_norm == "batch"
        )

    @classmethod
    def from_params(cls, params: Mapping[str, Any], *, seed: int) -> "EmbeddingConfig":
        """The configuration of a trial's parameters; raises TypeError for a name it does not have."""
        return cls(seed=seed, **params)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
