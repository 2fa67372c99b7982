"""One run of Ray Tune over all studies of a job. Its own folder is scratch."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray import tune
from ray.tune import TuneError

from search.agenda import Agenda, OnChange
from search.job.job import SearchJob
from search.job.parts import ResourcesPart
from search.local.signals import keeping_interrupt
from search.searcher import LeavingNodes, StudyScheduler, StudySearcher
from search.storage import Storage
from search.workers.context import WorkerContext
from search.workers.hosts import PROXY_CPUS, PackedTrial
from search.workers.pool import HostPool, OnStates
from search.workers.trial import WORKER_RESTARTS, WorkerTrial


def run_trials(
    job: SearchJob,
    context: WorkerContext,
    agendas: Sequence[Agenda],
    *,
    cluster: bool,
    on_change: OnChange,
    on_states: OnStates,
    check_budget: Callable[[], None],
    warn: Callable[[str], None],
) -> None:
    """Run trials until nothing is left to try, or something wants an end; what is left is in the studies.

    Args:
        cluster: whether Ray is a cluster, which may grow.
        on_change: called after each change of a trial's record.
        on_states: told of what the hosts of packs do, where there are any.
        check_budget: called before each question for a trial.
        warn: told what the user has to know.

    Raises:
        StorageError: the storage gave way.
    """
    resources = job.resources
    with contextlib.ExitStack() as stack:
        pool: HostPool | None = None
        room: Callable[[], int] = functools.partial(_room, resources, cluster=cluster)
        trainable = tune.with_resources(
            tune.with_parameters(WorkerTrial, context=context),
            {"cpu": resources.cpus, "gpu": resources.gpus},
        )
        if resources.packed:
            capacity = resources.pack if isinstance(resources.pack, int) else None
            pool = HostPool(
                context,
                capacity,
                cpus=resources.cpus,
                gpus=resources.gpus,
                cluster=cluster,
                on_states=on_states,
            )
            stack.callback(pool.close)
            room = pool.slots
            trainable = tune.with_resources(PackedTrial, {"cpu": PROXY_CPUS})
        searcher = StudySearcher(
            agendas,
            slots=lambda: min(room(), resources.concurrent) if resources.concurrent != "auto" else room(),
            on_change=on_change,
            check_budget=check_budget,
            pick_host=pool.pick if pool else None,
        )
        stack.callback(_forget_scratch, context.storage, job.name)
        if any(agenda.is_open for agenda in agendas):
            scheduler = StudyScheduler(
                searcher, on_change, timeout=job.trial_timeout, leaving=LeavingNodes(), warn=warn
            )
            _fit(job, trainable, searcher, scheduler, context)


def _fit(
    job: SearchJob,
    trainable: Any,
    searcher: StudySearcher,
    scheduler: StudyScheduler,
    context: WorkerContext,
) -> None:
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=context.storage.uri(f"{job.name}/tune"),
            failure_config=tune.FailureConfig(max_failures=WORKER_RESTARTS),
            verbose=0,
        ),
    )
    with keeping_interrupt():
        try:
            tuner.fit()
        except TuneError:
            if searcher.problem is None:
                raise
    if searcher.problem is not None:
        raise searcher.problem  # not from Tune's error: its own cause says what gave way


def _forget_scratch(storage: Storage, job: str) -> None:
    with contextlib.suppress(OSError):
        storage.delete(f"{job}/tune")


def _room(resources: ResourcesPart, *, cluster: bool) -> int:
    """How many trials with a worker each may be live now."""
    there: Mapping[str, float] = ray.cluster_resources()
    room = there.get("CPU", 0) // resources.cpus
    if resources.gpus:
        room = min(room, there.get("GPU", 0) // resources.gpus)
    # On a cluster one more waits, so that an autoscaler sees the demand.
    return max(1, int(room) + (1 if cluster else 0))
