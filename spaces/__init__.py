"""What a search tries: parameters, their bounds, and the paper's own sweeps as presets."""

from spaces.errors import FieldError, SpaceError
from spaces.presets import Preset, preset, presets
from spaces.space import PARAMETERS, Choice, Range, Space

__all__ = [
    "PARAMETERS",
    "Choice",
    "FieldError",
    "Preset",
    "Range",
    "Space",
    "SpaceError",
    "preset",
    "presets",
]
