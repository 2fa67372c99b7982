"""The trained parameters of a pack's trials: one matrix, a row for each, and the optimizer over its rows."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pipelines.encoder.batches import send

MAX_GRADIENT_NORM = 1.0
# As in the authors' code (google-research/adapter-bert, optimization.py). With torch's 1e-8 an element whose
# gradient is nearly zero makes a full step out of rounding, and a pack's rounding is not a single trial's.
ADAM_EPSILON = 1e-6
BETAS = (0.9, 0.999)  # of Adam's two moments, torch's defaults
SINGLE = "weight."  # names of whole encoder weights: they have no room for a second place

Shape = tuple[int, ...]


class ParameterBank:
    """K trials' trained parameters. Each name is one nn.Parameter of shape (K, *shape), a view of the matrix.

    Where the trials' shapes differ (adapters of several sizes, heads of several widths) the parameter has the
    largest, and the rest is zero. That is exact, in forward and in training: the padded columns of an adapter
    see act(0) = 0 and get no gradient, and Adam leaves a parameter without gradient at 0.

    Args:
        shapes: of each trial by name.
        places: K, where it is more than the trials.
        room: what a name is given at least, where a trial has it.

    Attributes:
        values: (K, P) fp32, P the padded count of all parameters; decayed ones come first.
        gradients: the same shape; autograd adds into it.
        absent: the same shape, true where a trial lacks what its neighbours train, and everywhere in the rows
            of idle places; None: nowhere.
        decayed: how many of the P weight decay applies to.
        parameters: by name, as the modules use them; a name that starts with `SINGLE` has no K dimension.
    """

    def __init__(
        self,
        shapes: Sequence[Mapping[str, Shape]],
        *,
        device: torch.device,
        places: int | None = None,
        room: Mapping[str, Shape] | None = None,
    ) -> None:
        places = places or len(shapes)
        self._shapes: list[Mapping[str, Shape]] = [*shapes, *({} for _ in range(places - len(shapes)))]
        names = dict.fromkeys(name for own in shapes for name in own)
        ordered = sorted(names, key=lambda name: not is_decayed(name))
        known = [*shapes, room or {}]
        padded = {name: _largest([own[name] for own in known if name in own]) for name in ordered}
        self._spans: dict[str, tuple[int, int, Shape]] = {}
        end = self.decayed = 0
        for name in ordered:
            start, end = end, end + torch.Size(padded[name]).numel()
            self._spans[name] = start, end, padded[name]
            if is_decayed(name):
                self.decayed = end
        self.values = torch.zeros(places, end, device=device)
        self.gradients = torch.zeros_like(self.values)
        self.absent: Tensor | None = None
        for place in range(places):
            self._mark_absent(place)
        self.parameters: dict[str, nn.Parameter] = {}
        for name in ordered:
            parameter = nn.Parameter(self._stacked(self.values, name))
            parameter.grad = self._stacked(self.gradients, name)
            self.parameters[name] = parameter

    @property
    def room(self) -> dict[str, Shape]:
        """The largest shape that each name has room for."""
        return {name: padded for name, (_, _, padded) in self._spans.items()}

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        """Whether a trial with these shapes could have a row."""
        return all(
            name in self._spans
            and all(size <= most for size, most in zip(shape, self._spans[name][2], strict=True))
            for name, shape in shapes.items()
        )

    def take(self, place: int, shapes: Mapping[str, Shape]) -> None:
        """Give a place's row to a trial, all of it zero; with no shapes the place is idle."""
        self._shapes[place] = shapes
        self.values[place] = 0
        self.gradients[place] = 0
        if self.absent is not None:
            self.absent[place] = False
        self._mark_absent(place)

    def _mark_absent(self, place: int) -> None:
        """Where a trial does not have a parameter that its neighbours train, its row must not move."""
        lacks = [span for name, span in self._spans.items() if name not in self._shapes[place]]
        if lacks and self.absent is None:
            self.absent = torch.zeros_like(self.values, dtype=torch.bool)
        if self.absent is not None:
            for start, end, _ in lacks if self._shapes[place] else [(0, self.values.shape[1], ())]:
                self.absent[place, start:end] = True

    def views(self, matrix: Tensor, place: int) -> dict[str, Tensor]:
        """A place's part of a (K, P) matrix by name, in the trial's own shapes; no copies."""
        found = {}
        for name, shape in self._shapes[place].items():
            start, end, padded = self._spans[name]
            whole = matrix[place, start:end].view(padded)
            found[name] = whole[tuple(slice(size) for size in shape)]
        return found

    def fill(self, place: int, name: str, tensor: Tensor) -> None:
        """Give a parameter that the place does not train the value that it has there."""
        start, end, padded = self._spans[name]
        self.values[place, start:end].view(padded).copy_(tensor)

    def _stacked(self, matrix: Tensor, name: str) -> Tensor:
        start, end, padded = self._spans[name]
        if name.startswith(SINGLE):
            if len(matrix) > 1:
                raise ValueError(f"{name} cannot be trained by {len(matrix)} trials in one pass")
            return matrix[0, start:end].view(padded)
        return matrix[:, start:end].unflatten(1, padded)  # type: ignore[no-any-return] # untyped in torch


def _largest(shapes: Sequence[Shape]) -> Shape:
    return tuple(max(sizes) for sizes in zip(*shapes, strict=True))


def update(
    values: Tensor,
    gradients: Tensor,
    mean: Tensor,
    square: Tensor,
    shrink: Tensor,
    columns: Sequence[Tensor],
    *,
    decayed: int,
    betas: tuple[float, float],
    epsilon: float,
) -> None:
    """One step, in place; gradients are zero afterwards. `kernels.update` does the same in one pass.

    Args:
        values, gradients, mean, square: (K, P); the first `decayed` of P decay.
        shrink: what each row's gradients are clipped by, (K, 1).
        columns: of each row 1 - beta^steps for both betas, its rate and its decay, (K, 1) each.
    """
    first, second, rates, decays = columns
    gradients.mul_(shrink)
    values[:, :decayed].mul_(1 - rates * decays)
    mean.lerp_(gradients, 1 - betas[0])
    square.mul_(betas[1]).addcmul_(gradients, gradients, value=1 - betas[1])
    root = (square / second).sqrt_().add_(epsilon)
    values.sub_((mean / root).mul_(rates / first))
    gradients.zero_()


class BankOptimizer:
    """AdamW over a bank's rows, each with its own rate, decay, clipping and count of steps: a handful of
    operations for all of them.

    Decoupled weight decay (Loshchilov & Hutter 2019) on weight matrices alone; gradients of each row are
    clipped to norm 1.

    Args:
        fused: by a kernel.

    Attributes:
        moments: `exp_avg` and `exp_avg_sq`, (K, P).
    """

    def __init__(
        self,
        bank: ParameterBank,
        weight_decays: Sequence[float],
        steps: Sequence[int],
        *,
        fused: bool = False,
    ) -> None:
        self._bank = bank
        self._fused = fused
        self.moments = {key: torch.zeros_like(bank.values) for key in ("exp_avg", "exp_avg_sq")}
        self._decays = list(weight_decays)
        self._steps = list(steps)

    def take(self, place: int, *, weight_decay: float, steps: int) -> None:
        """Begin anew with a place's row; its moments are zero."""
        self._decays[place], self._steps[place] = weight_decay, steps
        for moments in self.moments.values():
            moments[place] = 0

    @torch.no_grad()
    def step(self, rates: Sequence[float]) -> None:
        """One step from the gradients at hand, which are zero afterwards.

        Args:
            rates: the learning rate of each place.
        """
        bank = self._bank
        if bank.absent is not None:
            bank.gradients.masked_fill_(bank.absent, 0)
        self._steps = [taken + 1 for taken in self._steps]
        corrections = [[1 - beta**taken for taken in self._steps] for beta in BETAS]
        columns = send(torch.tensor([*corrections, rates, self._decays])[..., None], bank.values.device)
        norms = bank.gradients.norm(dim=1, keepdim=True)
        shrink = (MAX_GRADIENT_NORM / (norms + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_
        chosen = update
        if self._fused:
            from pipelines.packs.kernels.update import update as chosen  # needs Triton
        matrices = (bank.values, bank.gradients, self.moments["exp_avg"], self.moments["exp_avg_sq"])
        decayed = bank.decayed
        chosen(*matrices, shrink, columns.unbind(), decayed=decayed, betas=BETAS, epsilon=ADAM_EPSILON)


def is_decayed(name: str) -> bool:
    """Whether weight decay applies to a trained parameter: not to biases and layer norms."""
    return not name.endswith("bias") and "norm" not in name.split(".")
