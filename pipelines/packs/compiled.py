"""The layers of a pack, compiled: forward and backward pass of each become a few kernels.

All layers of an encoder share one graph, but the last, which may compute first tokens alone. It is dynamic in
all that changes: trials join and leave, batches have other lengths, tasks other classes.
"""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo
import torch.fx.experimental._config as symbolic
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch._inductor.exc import InductorError

from pipelines.encoder.architectures import Architecture, layer_paths

# Steps of a pack that compiling is worth: it takes some 20 s, or 3 s with the kernels of an earlier process,
# and saves some 50 ms a step (docs/performance.md).
COLD_STEPS, KEPT_STEPS = 400, 60


log = logging.getLogger(__name__)
COMPILE_ERRORS = (TorchDynamoException, InductorError)


class Compiler:
    """Compiles layers, where so many steps are left that it pays.

    Args:
        least: steps; once something is compiled, whatever follows is as well: it has the same graphs.
        backend: torch.compile's.
    """

    def __init__(self, least: int, *, backend: str | Callable[..., Any] = "inductor") -> None:
        self._least = least
        self._given_up = False
        self._backend = backend

    def pays(self, steps: int) -> bool:
        """Whether a pack whose members have so many steps left is to be compiled."""
        return steps >= self._least and not self._given_up

    def give_up(self, error: Exception) -> None:
        """Compile nothing any more: it failed, and all goes without, more slowly."""
        self._given_up = True
        log.warning("packs go on uncompiled: torch could not compile their layers (%s)", error)

    def compile(self, encoder: nn.Module, architecture: Architecture, *, first: int) -> None:
        """Have an encoder's layers from `first` up compiled when they are first called."""
        self._least = 0
        # Sizes that happen to be equal once need not be so again, and a bank's parameters grow and shrink.
        symbolic.use_duck_shape = False
        torch._dynamo.config.force_parameter_static_shapes = False
        torch._dynamo.config.force_nn_module_property_static_shapes = False
        # torch looks at every input so while it traces.
        warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
        for path in layer_paths(architecture, encoder)[first:]:
            layer = encoder.get_submodule(path)
            layer.forward = torch.compile(layer.forward, fullgraph=True, dynamic=True, backend=self._backend)
