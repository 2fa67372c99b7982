"""A probe out of a bundle: texts in, outputs out."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.precision import resolve_precision
from pipelines.probe.config import ProbeConfig
from pipelines.probe.features import features, outputs, read_columns


class TrainedProbe:
    """The linear model of a bundle, with the encoder that it reads.

    Args:
        tensors: a bundle's, which `different_tensors` has nothing to say of.
    """

    def __init__(
        self, backbone: Backbone, config: ProbeConfig, tensors: Mapping[str, Tensor], *, max_tokens: int
    ) -> None:
        self._backbone = backbone
        self._pooling = backbone.pooling(config.pooling)
        self._tensors = tensors
        self._max_tokens = max_tokens

    def read(self, rows: Sequence[tuple[str, ...]], *, precision: str) -> tuple[NDArray[np.float64], None]:
        """The head's outputs, shape (n, outputs); no kind needs more of them for answers."""
        backbone = self._backbone
        texts = read_columns(rows, backbone.tokenizer, self._max_tokens)
        resolved = resolve_precision(precision, next(backbone.model.parameters()).device)
        found = features(backbone, texts, pooling=self._pooling, precision=resolved)
        return outputs(self._tensors, found), None
