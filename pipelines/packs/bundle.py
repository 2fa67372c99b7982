"""An encoder out of a bundle, with what was trained in it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.precision import resolve_precision
from pipelines.encoder.tokens import Tokens, encode
from pipelines.packs.model import PackModel
from pipelines.packs.pack import predict


class TrainedEncoder:
    """The model of a bundle, its only occupant the trial that won."""

    def __init__(self, backbone: Backbone, model: PackModel, *, max_tokens: int) -> None:
        self.model = model
        self._backbone = backbone
        self._max_tokens = max_tokens

    def outputs(self, rows: Sequence[tuple[str, ...]], *, precision: str) -> NDArray[np.float64]:
        """The head's outputs for texts or pairs: (n, outputs)."""
        return self.read(encode(rows, self._backbone.tokenizer, self._max_tokens), precision=precision)

    def read(self, tokens: Tokens, *, precision: str) -> NDArray[np.float64]:
        """The head's outputs for texts as tokens: (n, outputs); of spans (all tokens, 2)."""
        resolved = resolve_precision(precision, self.model.bank.values.device)
        return predict(self.model, tokens, pad_id=self._backbone.pad_id, precision=resolved)
