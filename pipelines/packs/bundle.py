"""An encoder out of a bundle, with what was trained in it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.precision import resolve_precision
from pipelines.packs.model import PackModel
from pipelines.packs.prediction import predict
from pipelines.tasks.kind import Kind, Targets


class TrainedEncoder:
    """The model of a bundle, its only occupant the trial that won.

    Args:
        rules: of the task's kind.
    """

    def __init__(self, backbone: Backbone, model: PackModel, *, rules: Kind, max_tokens: int) -> None:
        self.model = model
        self._backbone = backbone
        self._rules = rules
        self._max_tokens = max_tokens

    def read(self, rows: Sequence[tuple[str, ...]], *, precision: str) -> tuple[NDArray[np.float64], Targets]:
        """The head's outputs for texts or pairs, and what the task's kind needs beside them for answers."""
        resolved = resolve_precision(precision, self.model.bank.values.device)
        tokens, targets, _ = self._rules.encode_texts(rows, self._backbone, self._max_tokens)
        return predict(self.model, tokens, pad_id=self._backbone.pad_id, precision=resolved), targets
