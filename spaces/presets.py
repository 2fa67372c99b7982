"""Spaces with a name. Each says where its values come from."""

from typing import NamedTuple

from spaces.errors import FieldError, suggest
from spaces.space import Choice, Range, Space


class Preset(NamedTuple):
    """A named space, and where its values come from."""

    space: Space
    description: str


_PRESETS: dict[str, Preset] = {}


def register(name: str, description: str, space: Space) -> Space:
    """Give a space a name. Raises ValueError for a name that is taken."""
    if name in _PRESETS:
        raise ValueError(f"preset {name!r} is registered twice; rename one of them")
    _PRESETS[name] = Preset(space, description)
    return space


def preset(name: str) -> Space:
    """The space of this name. Raises FieldError, naming the nearest one, where there is none."""
    if name not in _PRESETS:
        raise FieldError("space", name, "unknown preset", suggest(name, _PRESETS))
    return _PRESETS[name].space


def presets() -> dict[str, Preset]:
    """All presets by name."""
    return dict(_PRESETS)


GLUE = register(
    "glue",
    "The paper's GLUE sweep (Houlsby et al. 2019, §3.2): 3 sizes x 3 learning rates x 2 lengths, 18 in all.",
    Space(
        (
            ("adapter_size", Choice((8, 64, 256))),
            ("learning_rate", Choice((3e-5, 3e-4, 3e-3))),
            ("epochs", Choice((3, 20))),
        )
    ),
)

# Size: the paper finds a flat optimum (§3.6: 86.2, 85.8, 85.7 on validation for 8, 64, 256), so sizes
# between are as good and matter by their ratio; below 8 a little is lost (§3.5: F1 89.9 at 2, 90.4 at 64).
# Rate: the three of §3.2 lie a decade apart, and the gaps are worth sampling. Epochs stay a choice: runs are
# compared at equal epochs only, since a rate that has decayed to 0 flatters the short one.
DEFAULT = register(
    "default",
    "The paper's GLUE sweep (§3.2) with the gaps filled: sizes 8 to 256 and learning rates 3e-5 to 3e-3, "
    "both log-uniform; 3 and 20 epochs, and 10 as for SQuAD (§3.5).",
    Space(
        (
            ("adapter_size", Range(8, 256, log=True)),
            ("learning_rate", Range(3e-5, 3e-3, log=True)),
            ("epochs", Choice((3, 10, 20))),
        )
    ),
)
