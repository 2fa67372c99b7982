"""Who sits where in a pack: its model, with a place for each trial and some idle ones, and its optimizer."""

from collections.abc import Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipelines.config import EncoderConfig
from pipelines.encoder.backbone import Backbone
from pipelines.encoder.prefix import PrefixCache
from pipelines.encoder.tokens import Tokens
from pipelines.packs.bank import BankOptimizer, Shape
from pipelines.packs.batches import Part
from pipelines.packs.model import Occupant, PackModel
from pipelines.tasks.encoded import EncodedTask

FEW = 4  # one in so many places: with less trials than that a smaller model takes over
# The text of an idle place: one token of any kind.
IDLE = Tokens(np.zeros(1, np.int32), np.array([0, 1]), np.zeros(1, np.int32))


class Sitter(Protocol):
    """What is asked of a trial that has a place.

    Attributes:
        parameters: what it trains, by name.
        moments: the optimizer's, as `MOMENT.NAME`.
        steps: taken so far.
    """

    task: EncodedTask
    occupant: Occupant
    parameters: dict[str, Tensor]
    moments: dict[str, Tensor]
    steps: int

    @property
    def config(self) -> EncoderConfig: ...


S = TypeVar("S", bound=Sitter)


class Places(Generic[S]):
    """A model with as many places as the next power of two. Trials sit down and get up while it stays.

    Args:
        sitters: the first ones.
        precision: of the prefixes in the cache.
        cache: as `Pack` has it.
        room: as `ParameterBank` has it.
        fused: whether the optimizer is a kernel.
    """

    def __init__(
        self,
        backbone: Backbone,
        sitters: Sequence[S],
        *,
        pooling: str,
        precision: str,
        cache: PrefixCache | None,
        room: Mapping[str, Shape],
        fused: bool,
    ) -> None:
        count = 1 << (len(sitters) - 1).bit_length()
        occupants = [one.occupant for one in sitters]
        self.model = PackModel(backbone, occupants, pooling=pooling, places=count, room=room)
        idle = [0] * (count - len(sitters))
        self.optimizer = BankOptimizer(
            self.model.bank,
            [*(one.config.weight_decay for one in sitters), *idle],
            [*(one.steps for one in sitters), *idle],
            fused=fused,
        )
        self.rows = 0  # of the largest batch that anybody here has had
        self._backbone = backbone
        self._precision = precision
        self._cache = cache if self.model.boundary else None
        self._sitters: list[S | None] = [None] * count
        self._prefixes: list[dict[str, NDArray[np.generic]]] = [{} for _ in range(count)]
        for place, one in enumerate(sitters):
            self._load(place, one)
        if not all(self._read_prefixes(place, one) for place, one in enumerate(sitters)):
            self._cache = None  # those layers are computed, for all
            self._prefixes = [{} for _ in range(count)]
        self.model.use_known_layers(self._cache is not None)

    @property
    def seated(self) -> list[tuple[int, S]]:
        """Each trial's place, and the trial."""
        return [(place, one) for place, one in enumerate(self._sitters) if one is not None]

    @property
    def outgrown(self) -> bool:
        """Whether another model would suit these trials better: most places are idle, or nobody trains the
        lowest layers any more.
        """
        few = len(self.seated) * FEW <= len(self._sitters) > 1
        return few or self.model.first_layer != self.model.boundary

    def place_of(self, sitter: S) -> int | None:
        return next((place for place, one in self.seated if one is sitter), None)

    def seat(self, sitter: S) -> bool:
        """Give a trial an idle place, if it fits."""
        if not self.model.fits(sitter.occupant):
            return False
        place = self.model.idle[0]
        if not self._read_prefixes(place, sitter):
            return False
        self.model.seat(place, sitter.occupant)
        self.optimizer.take(place, weight_decay=sitter.config.weight_decay, steps=sitter.steps)
        self._load(place, sitter)
        return True

    def get_up(self, sitter: S) -> None:
        """Give a trial its parameters and moments, and leave its place idle."""
        place = self.place_of(sitter)
        if place is None:
            return
        sitter.parameters, sitter.moments = self.copies(place)
        self._sitters[place] = None
        self._prefixes[place] = {}
        self.model.vacate(place)
        self.optimizer.take(place, weight_decay=0.0, steps=0)

    def copies(self, place: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Parameters, and moments as `MOMENT.NAME`, as they are now: copies."""
        views = self.model.bank.views
        parameters = {name: view.clone() for name, view in self.model.trained(place).items()}
        moments = {
            f"{key}.{name}": view.clone()
            for key, matrix in self.optimizer.moments.items()
            for name, view in views(matrix, place).items()
        }
        return parameters, moments

    def part(self, place: int, split: str, tokens: Tokens, indices: NDArray[np.int64]) -> Part:
        """A trial's texts in a batch, all of "train" or "validation"."""
        spans = self.model.occupant(place).spans
        return Part(place, tokens, indices, self._prefixes[place].get(split), spans=spans)

    def idle_parts(self) -> list[Part]:
        """What stands in for the texts of idle places, so that a batch has the same places always."""
        prefix = next((own["train"][:1] for own in self._prefixes if own), None)
        one = np.zeros(1, dtype=np.int64)
        return [Part(place, IDLE, one, prefix, spans=self.model.reads_tokens) for place in self.model.idle]

    def _load(self, place: int, sitter: S) -> None:
        self._sitters[place] = sitter
        self.rows = max(self.rows, sitter.config.batch_size)
        self.model.load(sitter.parameters, place)
        for key, moments in self.optimizer.moments.items():
            for name, view in self.model.bank.views(moments, place).items():
                if f"{key}.{name}" in sitter.moments:
                    view.copy_(sitter.moments[f"{key}.{name}"])

    def _read_prefixes(self, place: int, sitter: S) -> bool:
        """Read what the layers below the boundary make of a trial's texts; False where that is not kept."""
        if self._cache is None:
            return True
        for name, tokens in (("train", sitter.task.train), ("validation", sitter.task.validation)):
            found = self._cache.read(self._backbone, tokens, self.model.boundary, self._precision)
            if found is None:
                return False
            self._prefixes[place][name] = found
        return True
