"""What a search tries: parameters, their bounds, and the paper's own sweeps as presets."""

from spaces.errors import FieldError, SpaceError
from spaces.parameters import PARAMETERS
from spaces.presets import Preset, preset, presets
from spaces.space import Choice, Range, Space

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
