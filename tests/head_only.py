"""A method that the package does not have, made of its pieces: the head alone trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pipelines.config import EncoderConfig
from pipelines.encoder.backbone import Backbone
from pipelines.method import _METHODS, register
from pipelines.packs.method import EncoderMethod
from pipelines.packs.trained import Trained
from spaces.legal import Legal
from spaces.parameters import PARAMETERS, allow, register_parameter
from spaces.presets import _PRESETS
from spaces.presets import register as register_preset
from spaces.space import Choice, Space


@dataclass(frozen=True, kw_only=True)
class HeadConfig(EncoderConfig):
    """The head's rate is the peak times so much."""

    method: str = "head_only"
    head_layer: int = 1  # nothing below it is dropped from


def _parts(_: Backbone, config: HeadConfig) -> Trained:
    return Trained(first_layer=config.head_layer)


HEAD_ONLY = EncoderMethod(
    name="head_only",
    card="A head alone (nobody 2026)",
    label="head only",
    legend="the head alone",
    colour="#F0E442",
    marker="*",
    configuration=HeadConfig,
    parts=_parts,
)


@contextmanager
def registered() -> Iterator[EncoderMethod]:
    """The method in all tables, as a package of its own would put it there."""
    legal = {**PARAMETERS}
    register(HEAD_ONLY)
    register_parameter("head_layer", Legal(int, 0, 1000, "a whole number, 0 or more", ("head_only",)))
    allow("head_only", "learning_rate", "epochs", "batch_size", "dropout")
    space = Space((("learning_rate", Choice((1e-2,))), ("head_layer", Choice((0, 1)))))
    register_preset("default_head_only", "For the tests.", space, method="head_only")
    try:
        yield HEAD_ONLY
    finally:
        del _METHODS["head_only"]
        del _PRESETS["default_head_only"]
        PARAMETERS.clear()
        PARAMETERS.update(legal)
