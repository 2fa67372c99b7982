"""A pack: trials that train together, one step of all of them in one pass of the frozen encoder."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.encoder.backbone import Backbone
from pipelines.encoder.batches import send, step_key
from pipelines.encoder.precision import autocast
from pipelines.encoder.prefix import PrefixCache
from pipelines.errors import TrialDiverged
from pipelines.packs.bank import BankOptimizer, Shape
from pipelines.packs.batches import Part, flat_cargo, padded_batch
from pipelines.packs.layout import has_kernels, most_tokens
from pipelines.packs.model import Occupant, PackModel, check_shareable
from pipelines.packs.places import Places, Sitter
from pipelines.packs.prediction import predict_all
from pipelines.packs.recorded import Recorder
from pipelines.tasks.kind import Kind

log = logging.getLogger(__name__)
GPU_CHECK_STEPS = 16  # a GPU is asked for its losses so seldom: each question waits for it


class Member(Sitter, Protocol):
    """What a pack asks of a trial that trains in it; `parameters` and `moments` are its own while it is in no
    pack, or its pack is put down.

    Attributes:
        failure: why it cannot go on.
    """

    failure: TrialDiverged | None

    @property
    def steps_left(self) -> int:
        """How many its schedule has yet."""

    @property
    def finished(self) -> bool:
        """Whether it trains no more: it leaves before the next step."""

    @property
    def epoch_ended(self) -> bool:
        """Whether it is to be validated before its next step."""

    def next_batch(self) -> NDArray[np.int64]:
        """The examples of its next step."""

    def rate(self) -> float:
        """The learning rate of its next step."""

    def targets(self, indices: NDArray[np.int64]) -> Tensor:
        """What its loss compares the outputs for its examples with, on the CPU."""

    def loss(self, outputs: Tensor, indices: NDArray[np.int64]) -> Tensor:
        """The mean loss of the outputs for every token of its examples; asked of kinds that have such."""

    def count_step(self, examples: int) -> None:
        """A step was taken with so many examples."""

    def add_losses(self, losses: Sequence[float]) -> bool:
        """Take the losses since the last call; False, and `failure` set, if one of them is not finite."""

    def end_epoch(self, outputs: NDArray[np.float64], trained: Mapping[str, Tensor]) -> None:
        """Validate. Raises TrialDiverged where an output is not finite.

        Args:
            outputs: for its validation set.
            trained: views of its parameters as they are.
        """


class Pack:
    """Trains its members; each has a place. A single trial is a pack of one.

    Members come and go between any two steps. None of them notices the others: data order and dropout are
    functions of its own seed and step, and all that trains is its own.

    Args:
        backbone: in the precision that it computes in (`Backbone.stored`).
        pooling: "pooler", "cls" or "mean".
        cache: keeps the outputs of layers that no member trains; None: these are computed anew each time.
        fused: on a GPU, by kernels and as recorded passes (`packs.recorded`), where its encoder can.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        pooling: str,
        precision: str,
        cache: PrefixCache | None = None,
        fused: bool = False,
    ) -> None:
        self.backbone = backbone
        self.pooling = pooling
        self.precision = precision
        self.device = next(backbone.model.parameters()).device
        self.members: list[Member] = []
        self._cache = cache
        self.fused = fused and backbone.architecture.flat and has_kernels(self.device)
        heads: int = getattr(backbone.model.config, "num_attention_heads", 1)
        self._most = most_tokens(backbone.width, heads, precision)
        self._places: Places[Member] | None = None
        self._room: dict[str, Shape] = {}  # what its parameters have been given room for
        self._recorder: Recorder | None = None
        self._unchecked: list[Tensor] = []  # losses (places,) of steps, still on the device
        self._failed: list[Member] = []

    @property
    def model(self) -> PackModel:
        """The model of the members as they are now."""
        return self._taken().model

    @property
    def optimizer(self) -> BankOptimizer:
        return self._taken().optimizer

    def accepts(self, occupant: Occupant) -> bool:
        """Whether a trial can share a pass with the members."""
        try:
            # They share one with each other already, so that the first speaks for all.
            check_shareable(self.backbone, [*(one.occupant for one in self.members[:1]), occupant])
        except ValueError:
            return False
        return True

    def join(self, member: Member) -> None:
        """Take a trial in, where it stands."""
        self._failed += self._check_losses()
        self.members.append(member)
        if self._places is not None and not self._places.seat(member):
            self._room = self._places.model.bank.room
            self.put_down()

    def leave(self, member: Member) -> None:
        """Give a trial its parameters and moments back; it can join again, here or elsewhere."""
        self._failed += self._check_losses()
        if self._places is not None:
            self._places.get_up(member)
        self.members.remove(member)
        if not self.members:
            self.put_down()
        if self._recorder is not None and not self._recorder.records:
            self._recorder = None  # there may be memory for it now

    def put_down(self) -> None:
        """Give all members their parameters and moments back; the next step takes them up again."""
        self._failed += self._check_losses()
        if self._places is not None:
            for one in self.members:
                self._places.get_up(one)
        self._places = self._recorder = None

    def copies(self, member: Member) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A member's parameters, and its moments as `MOMENT.NAME`, as they are now: copies."""
        place = None if self._places is None else self._places.place_of(member)
        if self._places is None or place is None:
            return member.parameters, member.moments
        return self._places.copies(place)

    def step(self) -> list[Member]:
        """One optimizer step of every member; returns those whose epoch has ended or that have failed.

        A member that diverges leaves the pack with its `failure` set. If memory runs out, nothing has
        changed: `torch.OutOfMemoryError` is raised, and after a member has left the step can be taken again.
        Kernels that cannot be compiled or started are done without from then on: slower, not wrong.
        """
        try:
            return self._step()
        except Exception as error:  # of a compiler, a driver, a cache: whatever they raise
            if not self.fused or isinstance(error, torch.OutOfMemoryError):
                raise
            log.warning("trials go on without compiled kernels, slower: %s: %s", type(error).__name__, error)
            self.fused = False
            self.put_down()
            return self._step()

    def _step(self) -> list[Member]:
        if any(one.epoch_ended for one in self.members):  # memory did not suffice to validate them
            return self._settle()
        for one in [one for one in self.members if one.finished]:
            self.leave(one)
        if self._places is not None and self._places.outgrown:
            self._room = {}
            self.put_down()
        places = self._taken()
        batches = {place: one.next_batch() for place, one in places.seated}
        keys, rates = [0] * len(places.model.occupants), [0.0] * len(places.model.occupants)
        for place, one in places.seated:
            keys[place], rates[place] = step_key(one.config.seed, one.steps), one.rate()
        places.model.train()
        try:
            losses = self._losses(self._outputs(batches, keys), batches)
            _backward(losses.sum())
        except torch.OutOfMemoryError:
            places.model.bank.gradients.zero_()
            self._recorder = None  # with what its passes hold
            raise
        places.optimizer.step(rates)
        self._unchecked.append(losses.detach())
        for place, one in places.seated:
            one.count_step(len(batches[place]))
        return self._settle()

    def _outputs(self, batches: Mapping[int, NDArray[np.int64]], keys: Sequence[int]) -> dict[int, Tensor]:
        """By place, what its head makes of its texts, with its dropout."""
        places = self._taken()
        parts = [places.part(place, "train", one.task.train, batches[place]) for place, one in places.seated]
        if self.fused:  # recorded passes are of all places, always
            parts = sorted([*parts, *places.idle_parts()], key=lambda part: part.place)
        found = self._passed(places, parts, keys)
        return {part.place: outputs for part, outputs in zip(parts, found, strict=True)}

    def _losses(self, outputs: Mapping[int, Tensor], batches: Mapping[int, NDArray[np.int64]]) -> Tensor:
        """The losses of the members, (members,): of those that are alike together, as each alone is a dozen
        operations for a few numbers.
        """
        losses: dict[int, Tensor] = {}
        alike: dict[tuple[Kind, tuple[int, int]], dict[int, Member]] = {}
        for place, one in self._taken().seated:
            if one.task.rules.per_token:
                losses[place] = one.loss(outputs[place][: len(batches[place])], batches[place])
            else:
                size = len(batches[place]), one.occupant.outputs
                alike.setdefault((one.task.rules, size), {})[place] = one
        for (kind, (rows, _)), members in alike.items():
            found = torch.stack([outputs[place] for place in members])[:, :rows]
            targets = torch.stack([one.targets(batches[place]) for place, one in members.items()])
            together = kind.losses(found, send(targets, self.device))
            losses |= dict(zip(members, together.unbind(), strict=True))
        return torch.stack([losses[place] for place, _ in self._taken().seated])

    def _passed(self, places: Places[Member], parts: Sequence[Part], keys: Sequence[int]) -> list[Tensor]:
        model, pad_id = places.model, self.backbone.pad_id
        if self.flat:
            room = places.rows if self.fused else 0
            sizes = {"room": room, "most": self._most}
            cargo = flat_cargo(parts, pad_id=pad_id, fused=self.fused, keys=keys, **sizes)
            if self._recorder is None:
                self._recorder = Recorder(model, self.precision, records=self.fused)
            return self._recorder.outputs(cargo)
        batch, layout = padded_batch(parts, pad_id=pad_id, device=self.device)
        model.masks.begin(send(torch.tensor(keys, dtype=torch.int32), self.device))
        try:
            with autocast(self.device, self.precision):
                found: list[Tensor] = model(batch, layout)
        finally:
            model.masks.begin(None)
        return found

    def _settle(self) -> list[Member]:
        """Look at the losses if it is time to; validate the members whose epoch has ended."""
        ended = [one for one in self.members if one.epoch_ended]
        every = 1 if self.device.type == "cpu" else GPU_CHECK_STEPS
        if not ended and len(self._unchecked) < every:
            return []
        self._failed += self._check_losses()
        ended = [one for one in ended if one.failure is None]
        for one, outputs in zip(ended, self.evaluate(ended), strict=True):
            try:
                one.end_epoch(outputs, self.model.trained(self._place_of(one)))
            except TrialDiverged as error:
                one.failure = error
                self._failed.append(one)
        failed, self._failed = self._failed, []
        for one in failed:
            if one in self.members:
                self.leave(one)
        return failed + [one for one in ended if one.failure is None]

    def _check_losses(self) -> list[Member]:
        """Hand the losses of the last steps to the members; those for whom one is not finite."""
        if not self._unchecked:
            return []
        losses = torch.stack(self._unchecked).cpu().tolist()  # (steps, members)
        self._unchecked = []
        return [
            one
            for index, (_, one) in enumerate(self._taken().seated)
            if not one.add_losses([row[index] for row in losses])
        ]

    def evaluate(self, members: Sequence[Member]) -> list[NDArray[np.float64]]:
        """The outputs of members for their validation sets, in one pass of the encoder where it is flat."""
        places = self._taken()
        parts = [
            places.part(self._place_of(one), "validation", one.task.validation, np.arange(0))
            for one in members
        ]
        shared = [parts] if self.flat and parts else [[part] for part in parts]
        return [
            outputs
            for together in shared
            for outputs in predict_all(
                self.model,
                together,
                pad_id=self.backbone.pad_id,
                precision=self.precision,
                flat=self.flat,
                fused=self.fused,
            )
        ]

    @property
    def flat(self) -> bool:
        """Whether texts stand side by side without padding. A single trial's are of like length: on a CPU
        they are not worth moving about for attention.
        """
        several = len(self.members) > 1 or self.device.type != "cpu"
        return several and self.backbone.architecture.flat

    def _taken(self) -> Places[Member]:
        """Where the members sit; they are given places if they have none."""
        if self._places is None:
            self._places = Places(
                self.backbone,
                self.members,
                pooling=self.pooling,
                precision=self.precision,
                cache=self._cache,
                room=self._room,
                fused=self.fused,
            )
        return self._places

    def _place_of(self, member: Member) -> int:
        place = self._taken().place_of(member)
        if place is None:
            raise ValueError("a trial that is no member of the pack")
        return place


def _backward(loss: Tensor) -> None:
    with warnings.catch_warnings():
        # Parameters are views of one matrix, and so are their gradients: torch would rather have neither.
        warnings.filterwarnings("ignore", message="grad and param do not obey")
        loss.backward()
