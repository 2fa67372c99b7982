"""Several trials in one process on one backbone: its host, and the light Tune trials that speak for them.

The driver owns one host per GPU. A Tune trial stays one trial with its own scores, checkpoints and stops; its
worker has no torch and asks the host for the next epoch. Should a host die, Ray starts another, and the
trials go on from their checkpoints there.
"""

import logging
import os
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError
from ray.tune import Trainable

from search.errors import StorageError
from search.workers.assignment import Assignment
from search.workers.capacity import Capacity
from search.workers.checkpoints import read_state, write_state
from search.workers.context import WorkerContext, keep_kernels, open_backbone, open_cache
from search.workers.gpus import read_gpus
from search.workers.reports import REPORT, HostState, TrialReport, describe_failure, make_report

if TYPE_CHECKING:  # torch takes seconds to import: drivers and proxies do without
    from pipelines.epochs import TrainingState
    from pipelines.folds import FoldedTraining
    from pipelines.packs.pack import Member, Pack
    from pipelines.packs.training import Training
    from pipelines.tasks.encoded import EncodedTask

log = logging.getLogger(__name__)
PROXY_CPUS = 0.001  # of a trial that trains in a pack: it waits; Tune takes no 0
HOST_RESTARTS = 3  # times that a trial is taken to a new host after the death of one
HOST_WAIT_SECONDS = 1
IDLE_SECONDS = 0.2


@dataclass
class Guest:
    """A trial at a host.

    Attributes:
        asked: how many epochs its Tune trial knows; one more is trained ahead of its asking.
        training: None until it sits in a pack for the first time.
        members: what trains in packs for it: the training, or that of each fold.
        blocked: why it cannot go on, where that is the storage's fault.
        ready: how many of its epochs can be told.
        visit: who asked last; only they can drop it.
        states: by epoch, those that are not in the checkpoint yet.
    """

    assignment: Assignment
    asked: int
    visit: str
    training: "Training | FoldedTraining | None" = None
    members: Sequence[Any] = ()
    failure: str | None = None
    blocked: str | None = None
    ready: int = 0
    states: "dict[int, TrainingState]" = field(default_factory=dict)

    @property
    def may_train(self) -> bool:
        """Whether nothing has gone wrong."""
        return self.failure is None and self.blocked is None

    def wants_seat(self, member: Any) -> bool:
        """Whether a member has something to train; folds that have ended an epoch wait for the others."""
        return self.may_train and not member.finished and len(member.epochs) <= self.asked


class PackHost:
    """Trains the trials that are asked for, side by side in packs, from a thread of its own.

    An actor with several threads: `next_epoch` blocks.

    Args:
        capacity: trials at once; None: as many as fit in memory and still pay.
    """

    def __init__(self, context: WorkerContext, capacity: int | None) -> None:
        self._context = context
        self._backbone = open_backbone(context)
        self._cache = open_cache(context)
        self._fused = keep_kernels(context)
        self._capacity = Capacity(capacity, together=_steps_together(context))
        self._guests: dict[str, Guest] = {}
        self._packs: list[Pack] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._train, name="packs", daemon=True).start()

    def state(self) -> HostState:
        """How many trials it takes now, and what it does."""
        members = [len(pack.members) for pack in tuple(self._packs)]
        packs = tuple(sorted(filter(None, members), reverse=True))
        trials = -(-self._capacity.count // self._context.folds)
        return HostState(trials, packs, os.uname().nodename, read_gpus())

    def next_epoch(self, assignment: Assignment, visit: str) -> str:
        """Train a trial's next epoch, write its checkpoint, and report: a `TrialReport` as JSON.

        Args:
            assignment: `known` is how many epochs have been reported.
            visit: who asks.
        """
        known = assignment.known
        with self._changed:
            guest = self._guests.setdefault(assignment.key, Guest(assignment, known, visit))
            guest.asked, guest.visit = known, visit
            self._changed.notify_all()
            self._changed.wait_for(lambda: guest.failure or guest.blocked or guest.ready > known)
            state = guest.states.pop(known + 1, None)
        if state is not None:
            try:
                write_state(self._context, assignment, state)
            except StorageError as error:
                guest.blocked = str(error)
        if guest.blocked is not None:
            return TrialReport(blocked=guest.blocked).dumps()
        epochs = None if guest.failure is not None else known + 1
        return make_report(guest.training, failure=guest.failure, epochs=epochs).dumps()

    def drop(self, assignment: Assignment, visit: str | None) -> None:
        """Forget a trial: its Tune trial has ended, or goes on elsewhere. Its checkpoint stays.

        Args:
            visit: who says so. Nothing happens if another has asked for the trial since: Tune may start two
                workers for one trial, and end the later one. None: the driver, whoever asked.
        """
        with self._changed:
            guest = self._guests.get(assignment.key)
            if guest is not None and visit in (guest.visit, None):
                del self._guests[assignment.key]
                guest.failure = guest.failure or "was dropped"
            self._changed.notify_all()

    def _train(self) -> None:
        try:
            self._train_all()
        except BaseException:  # a GPU that is lost for this process, most likely: Ray starts another one
            log.exception("a host of packs ends, and its trials go on in a new one from their checkpoints")
            os._exit(1)

    def _train_all(self) -> None:
        while True:
            with self._changed:
                self._seat()
                busy = [pack for pack in self._packs if pack.members]
                if not busy:
                    self._changed.wait(IDLE_SECONDS)
                    continue
            for pack in busy:
                self._step(pack)

    def _seat(self) -> None:
        """Seat those who want to train and do not; take their seats from those who have nothing to train."""
        for pack in self._packs:
            for member in list(pack.members):
                guest = self._guest_of(member)
                if guest is None or not guest.wants_seat(member):
                    pack.leave(member)
        self._packs = [pack for pack in self._packs if pack.members]
        for guest in list(self._guests.values()):
            if self._free_seats() <= 0:
                return
            if not guest.may_train:
                continue
            waiting = [one for one in guest.members if guest.wants_seat(one) and not self._is_seated(one)]
            if guest.training is not None and not waiting:
                continue
            try:
                if guest.training is None:
                    self._welcome(guest)
                for member in waiting[: self._free_seats()]:
                    member.move_to(self._pack_for(member.task, member.config))
            except StorageError as error:
                guest.blocked = str(error)
            except Exception as error:  # whatever a configuration does wrong is its own failure
                guest.failure = describe_failure(error)
            self._changed.notify_all()

    def _free_seats(self) -> int:
        return self._capacity.count - sum(len(pack.members) for pack in self._packs)

    def _welcome(self, guest: Guest) -> None:
        """Make a trial's training, from its checkpoint if there is one. Of folds as many sit as have room."""
        from pipelines.folds import FoldedTraining, start_training
        from pipelines.packs.training import Training

        config: Any = guest.assignment.config()
        free = self._free_seats()

        def make(task: "EncodedTask") -> Training:
            pack = self._pack_for(task, config)
            return Training(self._backbone, task, config, pack=pack, pooling=self._context.pooling)

        task = guest.assignment.seen(ray.get(self._context.tasks[guest.assignment.task]))
        training: Any = start_training(task, make)
        members: Sequence[Any] = (training,)
        if isinstance(training, FoldedTraining):
            members = training.trainings
        for member in members[free:]:
            member.pack.leave(member)
        saved = read_state(self._context, guest.assignment)
        if saved is not None:
            training.restore(saved)
        guest.members, guest.training, guest.ready = members, training, len(training.epochs)

    def _pack_for(self, task: Any, config: Any) -> "Pack":
        """The first pack that a trial can join, or a new one."""
        from pipelines.encoder.precision import resolve_precision
        from pipelines.packs.model import Occupant
        from pipelines.packs.pack import Pack

        occupant = Occupant(config, task.outputs, spans=task.rules.per_token)
        for pack in self._packs:
            if pack.accepts(occupant):
                return pack
        device = next(self._backbone.model.parameters()).device
        pack = Pack(
            self._backbone,
            pooling=self._context.pooling,
            precision=resolve_precision(self._context.precision, device),
            cache=self._cache,
            fused=self._fused,
        )
        self._packs.append(pack)
        return pack

    def _step(self, pack: "Pack") -> None:
        import torch

        members, started = len(pack.members), time.perf_counter()
        try:
            ended = pack.step()
        except torch.OutOfMemoryError as error:
            self._free(pack, error)
            return
        self._fused = self._fused and pack.fused  # kernels that failed once are not tried again
        self._capacity.measure(members, time.perf_counter() - started)
        if not ended:
            return
        with self._changed:
            for member in ended:
                guest = self._guest_of(member)
                if guest is not None:
                    self._note_end(guest, member)
            self._changed.notify_all()

    def _note_end(self, guest: Guest, member: Any) -> None:
        """A member has ended an epoch, or failed."""
        training: Any = guest.training
        if member.failure is not None:
            guest.failure = describe_failure(member.failure)
            return
        try:
            if training is not member:
                training.note_end(member)
            if len(training.epochs) > guest.ready:  # of all folds
                guest.ready = len(training.epochs)
                guest.states[guest.ready] = training.state()
        except Exception as error:  # a score that is not defined for what was predicted
            guest.failure = describe_failure(error)

    def _free(self, pack: "Pack", error: Exception) -> None:
        """Memory ran out: go on with fewer. Nobody fails but a trial that does not fit alone."""
        import torch

        with self._changed:
            alone = len(pack.members) == 1
            last = pack.members[-1]
            if alone:
                guest = self._guest_of(last)
                if guest is not None:
                    guest.failure = describe_failure(error)
            self._capacity.limit(len(pack.members) - 1)
            pack.leave(last)
            self._changed.notify_all()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _guest_of(self, member: "Member") -> Guest | None:
        guests = self._guests.values()
        return next((guest for guest in guests if any(own is member for own in guest.members)), None)

    def _is_seated(self, member: "Member") -> bool:
        return any(own is member for pack in self._packs for own in pack.members)


def _steps_together(context: WorkerContext) -> int:
    """Steps of a pack of which only the last waits for the device."""
    from pipelines.packs.pack import GPU_CHECK_STEPS

    return GPU_CHECK_STEPS if context.gpu else 1


class PackedTrial(Trainable):
    """A Tune trial whose training happens at a host: the actor that its configuration names."""

    _assignment: Assignment

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first trial."""
        self._begin(Assignment.from_tune(config))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in this process."""
        self._leave()
        self._begin(Assignment.from_tune(new_config))
        return True

    def step(self) -> dict[str, Any]:
        """The host's report of the next epoch."""
        report = TrialReport.loads(self._ask())
        self._assignment = replace(self._assignment, known=len(report.epochs))
        return {REPORT: report.dumps(), "done": report.finished or report.failure is not None}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing for Tune to keep: the host writes the trial's checkpoint into the storage."""
        return {"number": self._assignment.number}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the host finds the checkpoint by its name."""

    def cleanup(self) -> None:
        """Tell the host that the trial is not ours any more."""
        self._leave()

    def _begin(self, assignment: Assignment) -> None:
        self._assignment = assignment
        if assignment.host is None:
            raise ValueError(f"trial {assignment.key} was given no host to train at")
        self._visit = uuid.uuid4().hex
        self._host: Any = ray.get_actor(assignment.host)

    def _leave(self) -> None:
        self._host.drop.remote(self._assignment, self._visit)

    def _ask(self) -> str:
        for _ in range(HOST_RESTARTS):
            try:
                return str(ray.get(self._host.next_epoch.remote(self._assignment, self._visit)))
            except RayActorError:  # it died; Ray starts it anew, and the trial goes on from its checkpoint
                time.sleep(HOST_WAIT_SECONDS)
        return str(ray.get(self._host.next_epoch.remote(self._assignment, self._visit)))
