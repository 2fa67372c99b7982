"""A backbone as plain arrays, so that processes of one machine can use a single copy of its weights.

What carries it from process to process need only map arrays instead of copying them, as Ray's object store
and pickle's out-of-band buffers (protocol 5) do.
"""

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipelines.encoder.backbone import Backbone


@dataclass(frozen=True)
class SharedBackbone:
    """A backbone without its tokenizer, its weights beside it.

    Attributes:
        backbone: with parameters that have no memory (on the meta device).
        arrays: the parameters by name; bfloat16 as its bits in int16.
        rounded: the names of those.
    """

    backbone: Backbone
    arrays: Mapping[str, NDArray[np.generic]]
    rounded: frozenset[str]

    def open(self) -> Backbone:
        """The backbone around these very arrays: nothing is copied, so nothing may be written."""
        model = copy.deepcopy(self.backbone.model)
        real = {
            name: nn.Parameter(self._tensor(name), requires_grad=False)
            for name, _ in model.named_parameters()
        }
        by_identity = {id(p): real[name] for name, p in model.named_parameters()}
        for module in model.modules():  # a tensor that is used twice is one again
            for kind, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
                module.register_parameter(kind, by_identity[id(parameter)])
        return replace(self.backbone, model=model)

    def _tensor(self, name: str) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            tensor = torch.from_numpy(self.arrays[name])
        return tensor.view(torch.bfloat16) if name in self.rounded else tensor


def share(backbone: Backbone, precision: str) -> SharedBackbone:
    """A backbone (on the CPU) as arrays, as it computes in a precision: see `Backbone.stored`."""
    model = backbone.stored(precision).model
    empty = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False)
        for p in model.parameters()
    }
    rounded = frozenset(name for name, p in model.named_parameters() if p.dtype == torch.bfloat16)
    arrays = {
        name: (p.view(torch.int16) if name in rounded else p).detach().numpy()
        for name, p in model.named_parameters()
    }
    skeleton = replace(backbone, model=copy.deepcopy(model, empty), tokenizer=None)
    return SharedBackbone(skeleton, arrays, rounded)
