"""Several trials in one process on one backbone: its host, and the light Tune trials that speak for them.

The driver owns one host per GPU. A Tune trial stays one trial with its own scores, checkpoints and stops; its
worker has no torch and asks the host for the next epoch. Should a host die, Ray starts another, and the
trials go on from their checkpoints there.
"""

import contextlib
import logging
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayActorError
from ray.tune import Trainable

from search.errors import StorageError
from search.workers.assignment import Assignment
from search.workers.capacity import MOST, Capacity
from search.workers.checkpoints import read_state, write_state
from search.workers.context import WorkerContext, keep_kernels, open_backbone, open_cache
from search.workers.gpus import read_gpus
from search.workers.reports import REPORT, HostState, TrialReport, describe_failure, make_report

if TYPE_CHECKING:  # torch takes seconds to import: drivers and proxies do without
    from pipelines.epochs import TrainingState
    from pipelines.packs.pack import Member, Pack
    from pipelines.packs.training import Training

log = logging.getLogger(__name__)
PROXY_CPUS = 0.001  # of a trial that trains in a pack: it waits; Tune takes no 0
HOST_RESTARTS = 3  # times that a trial is taken to a new host after the death of one
HOST_WAIT_SECONDS = 1
POLL_SECONDS = 2  # between two questions to a host for its state
IDLE_SECONDS = 0.2

OnStates = Callable[[Sequence[HostState]], None]


@dataclass
class Guest:
    """A trial at a host.

    Attributes:
        asked: how many epochs its Tune trial knows; one more is trained ahead of its asking.
        training: None until it sits in a pack for the first time.
        blocked: why it cannot go on, where that is the storage's fault.
        ready: how many of its epochs can be told.
        visit: who asked last; only they can drop it.
        states: by epoch, those that are not in the checkpoint yet.
    """

    assignment: Assignment
    asked: int
    visit: str
    training: "Training | None" = None
    failure: str | None = None
    blocked: str | None = None
    ready: int = 0
    states: "dict[int, TrainingState]" = field(default_factory=dict)

    @property
    def wants_seat(self) -> bool:
        """Whether there is something for it to train."""
        if self.failure is not None or self.blocked is not None:
            return False
        return self.training is None or (not self.training.finished and self.ready <= self.asked)


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
        return HostState(self._capacity.count, packs, os.uname().nodename, read_gpus())

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
                if guest is None or not guest.wants_seat:
                    pack.leave(member)
        self._packs = [pack for pack in self._packs if pack.members]
        seated = sum(len(pack.members) for pack in self._packs)
        for guest in list(self._guests.values()):
            if seated >= self._capacity.count:
                return
            if guest.wants_seat and not self._is_seated(guest):
                try:
                    self._sit_down(guest)
                    seated += 1
                except StorageError as error:
                    guest.blocked = str(error)
                except Exception as error:  # whatever a configuration does wrong is its own failure
                    guest.failure = describe_failure(error)
                self._changed.notify_all()

    def _sit_down(self, guest: Guest) -> None:
        from pipelines.packs.training import Training

        config: Any = guest.assignment.config()
        task = ray.get(self._context.tasks[guest.assignment.task])
        if guest.training is None:
            training = Training(
                self._backbone, task, config, pack=self._pack_for(task, config), pooling=self._context.pooling
            )
            saved = read_state(self._context, guest.assignment)
            if saved is not None:
                training.restore(saved)
            guest.training, guest.ready = training, len(training.epochs)
        else:
            guest.training.move_to(self._pack_for(task, config))

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
                if guest is None or guest.training is None:
                    continue
                if member.failure is not None:
                    guest.failure = describe_failure(member.failure)
                else:
                    guest.ready = len(guest.training.epochs)
                    guest.states[guest.ready] = guest.training.state()
            self._changed.notify_all()

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
        return next((guest for guest in self._guests.values() if guest.training is member), None)

    def _is_seated(self, guest: Guest) -> bool:
        return any(member is guest.training for pack in self._packs for member in pack.members)


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


class HostPool:
    """The driver's hosts: one for each GPU (or, without one, a single host), as many as the cluster has.

    Args:
        capacity: trials at once at each; None: each host finds out.
        cpus, gpus: what a host takes, less the little of the CPUs that its trials' proxies take.
        cluster: whether an autoscaler may add nodes: one more host than there is room for then waits.
        on_states: told of what the hosts do, whenever that is known anew.
    """

    def __init__(
        self,
        context: WorkerContext,
        capacity: int | None,
        *,
        cpus: int,
        gpus: float,
        cluster: bool,
        on_states: OnStates = lambda _: None,
    ) -> None:
        left = max(cpus / 2, cpus - PROXY_CPUS * (capacity or MOST))
        self._options = {"num_cpus": left, "num_gpus": gpus, "max_restarts": -1, "max_concurrency": 1000}
        self._context = ray.put(context)
        self._capacity = capacity
        self._gpus = gpus
        self._spare = 1 if cluster and gpus else 0
        self._hosts: dict[str, Any] = {}
        self._states: dict[str, HostState] = {}
        self._on_states = on_states
        self._asked: dict[str, Any] = {}  # answers that are under way
        self._asked_at = 0.0

    def slots(self) -> int:
        """How many trials all hosts take now; starts hosts for GPUs that have come."""
        there = int(ray.cluster_resources().get("GPU", 0) // self._gpus) if self._gpus else 1
        while len(self._hosts) < max(1, there) + self._spare:
            name = f"adaptune-{self._context.hex()[:12]}-{len(self._hosts)}"
            self._hosts[name] = (
                ray.remote(PackHost).options(**self._options, name=name).remote(self._context, self._capacity)
            )
        if time.monotonic() - self._asked_at > POLL_SECONDS:
            self._asked_at = time.monotonic()
            for name, host in self._hosts.items():
                self._asked.setdefault(name, host.state.remote())
        ready, _ = ray.wait(list(self._asked.values()), num_returns=len(self._asked), timeout=0)
        for name, answer in list(self._asked.items()):
            if answer in ready:
                del self._asked[name]
                with contextlib.suppress(RayActorError):  # it is being started again
                    self._states[name] = ray.get(answer)
        if ready:
            self._on_states(list(self._states.values()))
        return sum(state.capacity for state in self._states.values())

    def pick(self, live: Counter[str]) -> str:
        """The host with the most room, given how many live trials each has."""
        return max(self._states, key=lambda name: self._states[name].capacity - live[name])

    def close(self) -> None:
        """End all hosts; what they trained is in their checkpoints."""
        for host in self._hosts.values():
            ray.kill(host)
        self._hosts, self._states = {}, {}
