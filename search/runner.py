"""One job from start to end on Ray: open the record, search, select, export. A resume is the same again."""

import contextlib
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from pipelines.data import TaskData
from pipelines.tokens import encode_examples, encode_task
from search.card import model_card
from search.errors import UserError
from search.job import SearchJob, differences
from search.plan import Plan, make_plan
from search.progress import Progress
from search.results import is_finished, job_results
from search.searcher import Search, StudyScheduler, StudySearcher
from search.selection import pick_best
from search.storage import Storage, bundle_key
from search.study import (
    HEARTBEAT_SECONDS,
    Record,
    Study,
    TrialRecord,
    beat,
    claim_lock,
    driver_of,
    rest,
)
from search.tracking import Tracker
from search.trial import AdapterTrial, WorkerContext
from search.winner import Winner, finish_winner

WORKER_RESTARTS = 3  # a trial whose worker dies goes on from its checkpoint so many times


log = logging.getLogger(__name__)


class Interrupted(Exception):
    """The search was asked to stop; what it did is kept, and `adaptune resume` goes on."""


def run(
    job: SearchJob, *, source: str = "job", cluster: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Run a job to its end, or go on with it; returns what `adaptune results --json` prints.

    A finished job is not run again.

    Args:
        source: what errors call the job.
        cluster: join the Ray cluster that this process belongs to, instead of starting Ray here.
        progress: told of what happens.

    Raises:
        JobError, UserError: the job cannot be run as it is; nothing was started.
        Interrupted: stopped by a signal.
    """
    storage = Storage(job.storage, job.database)
    progress = progress or Progress()
    progress.message(f"{job.name}: reading the data, loading the encoder")
    plan = make_plan(job, source=source)
    storage.prepare()
    with Record(storage) as record:
        studies = open_studies(record, storage, plan)
        if not is_finished(studies):
            with _drive(storage, studies):
                _search(plan, storage, studies, cluster=cluster, progress=progress)
        return job_results(studies, storage)


def open_studies(record: Record, storage: Storage, plan: Plan) -> tuple[Study, ...]:
    """The job's studies: made, or found as they were left.

    Raises:
        UserError: there is a job of this name with another content, other rows or another backbone.
    """
    job = plan.job
    wanted = {f"{job.name}/{data.task.name}/{method}": data for data in plan.tasks for method in job.methods}
    with claim_lock(storage):
        found = {study.name: study for study in record.studies(job.name) if "job" in study.attributes}
        for study in found.values():
            _refuse_other(study, plan, wanted.get(study.name), storage)
        studies = []
        for position, (name, data) in enumerate(wanted.items()):
            attributes = _study_attributes(plan, data, position)
            studies.append(found.get(name) or record.create_study(name, attributes))
    storage.write(f"{job.name}/job.json", _json(job.to_dict()))
    return tuple(studies)


def _study_attributes(plan: Plan, data: TaskData, position: int) -> dict[str, Any]:
    return {
        "position": position,
        "metric": data.task.metric,
        "data_fingerprint": data.fingerprint,
        "backbone_fingerprint": plan.backbone.fingerprint,
        "backbone_parameters": plan.backbone.parameters,
        "sizes": {name: len(getattr(data, name)) for name in ("train", "validation", "test")},
        "content": plan.job.content(),
        "job": plan.job.to_dict(),  # last: a study that has it was made completely
    }


def _refuse_other(study: Study, plan: Plan, data: TaskData | None, storage: Storage) -> None:
    old = study.attributes
    what = differences(old["content"], plan.job.content())
    if not what and data is not None and old["data_fingerprint"] != data.fingerprint:
        what = [f"the rows of task {data.task.name!r} are not those it was started with"]
    if not what and old["backbone_fingerprint"] != plan.backbone.fingerprint:
        what = [f"backbone {plan.backbone.name!r} has other weights, config or tokenizer than it had"]
    if what:
        name = plan.job.name
        raise UserError(
            f"there is a job {name!r} under {storage.root} already, and this one differs from it:\n"
            + "".join(f"  {line}\n" for line in what)
            + f"Go on with that one as it is (`adaptune resume {name} --storage {storage.root}`), "
            "or give this one another name or storage."
        )


@contextlib.contextmanager
def _drive(storage: Storage, studies: Sequence[Study]) -> Iterator[None]:
    """Be the job's driver: refuse a second one, and show a sign of life until the end."""
    with claim_lock(storage):
        other = driver_of(studies)
        if other is not None:
            raise UserError(
                f"job {studies[0].job!r} is being run already, by process {other['pid']} on {other['host']}. "
                "Wait for it or stop it first."
            )
        beat(studies[0])
    ended = threading.Event()

    def show_life() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            try:
                beat(studies[0])
            except Exception:  # a database that is away for a moment: the next sign may get there
                log.warning("the driver's sign of life could not be written", exc_info=True)

    thread = threading.Thread(target=show_life, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        rest(studies[0])


def _search(
    plan: Plan, storage: Storage, studies: Sequence[Study], *, cluster: bool, progress: Progress
) -> None:
    job = plan.job
    tracker = Tracker(studies, storage, uri=job.tracking.uri, experiment=job.tracking.experiment or job.name)
    searches = [
        Search(
            study,
            job.space_for(study.method),
            sampler=job.search.sampler,
            seed=job.search.seed,
            trials=job.search.trials,
        )
        for study in studies
    ]

    def tell(study: Study, number: int) -> None:
        tracker.notify(study, number)
        progress.update(study, study.trial(number))

    progress.message("starting Ray" if not cluster else "joining the Ray cluster")
    with start_ray(storage, job.name, cluster=cluster):
        tracker.start()
        try:
            progress.start([(search.study, plan.trials_of(search.study.method)) for search in searches])
            context = _worker_context(plan, storage)
            _run_trials(job, context, searches, slots=_slots(job, cluster=cluster), tell=tell)
            _finish(plan, context, searches, cluster=cluster, progress=progress)
        finally:
            progress.stop()
            for study in studies:
                tracker.notify(study)
            if not tracker.close():
                progress.warn(
                    f"MLflow is behind ({tracker.problem}). Nothing is lost: "
                    f"`adaptune resume {job.name}` brings it up to date."
                )


def _worker_context(plan: Plan, storage: Storage) -> WorkerContext:
    job = plan.job
    return WorkerContext(
        job=job.name,
        storage=storage,
        backbone=job.backbone,
        tasks={
            data.task.name: ray.put(encode_task(data, plan.backbone, job.max_tokens)) for data in plan.tasks
        },
        pooling=plan.pooling,
        precision=job.precision,
        threads=None if job.resources.gpus else job.resources.cpus,
        gpu=job.resources.gpus > 0,
    )


def _run_trials(
    job: SearchJob,
    context: WorkerContext,
    searches: Sequence[Search],
    *,
    slots: Callable[[], int],
    tell: Callable[[Study, int], None],
) -> None:
    """One Tune run over all studies of the job. Its own folder is scratch."""
    searcher = StudySearcher(searches, slots=slots, listener=tell)
    scratch = context.storage.uri(f"{job.name}/tune")
    trainable = tune.with_resources(
        tune.with_parameters(AdapterTrial, context=context),
        {"cpu": job.resources.cpus, "gpu": job.resources.gpus},
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            scheduler=StudyScheduler(searcher, tell),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="run",
            storage_path=scratch,
            failure_config=tune.FailureConfig(max_failures=WORKER_RESTARTS),
            verbose=0,
        ),
    )
    try:
        if any(search.is_open for search in searches):
            tuner.fit()
    finally:
        with contextlib.suppress(OSError):
            context.storage.delete(f"{job.name}/tune")
    if any(search.is_open for search in searches):
        raise Interrupted(job.name)


def _finish(
    plan: Plan, context: WorkerContext, searches: Sequence[Search], *, cluster: bool, progress: Progress
) -> None:
    """Select each study's winner, read its test score, write its bundle, and note all that in the study."""
    job = plan.job
    data = {one.task.name: one for one in plan.tasks}
    for study in (search.study for search in searches):
        if "winner" in study.attributes or "failure" in study.attributes:
            continue
        trials = study.trials()
        best = pick_best(trials)
        if best is None:
            reasons = sorted({trial.reason or "no reason known" for trial in trials})
            study.note("failure", f"no trial of {len(trials)} ended well: {'; '.join(reasons[:3])}")
            continue
        progress.message(f"{study.name}: trial {best.number} won; reading the test set, writing the bundle")
        task = data[study.task]
        arguments = (
            context,
            _winner(study, best, job, task),
            encode_examples(task.test, plan.backbone, job.max_tokens),
            task.test.labels,
        )
        if cluster:  # the head may be small: a worker has what a trial needs
            on_worker = ray.remote(finish_winner).options(
                num_cpus=job.resources.cpus, num_gpus=job.resources.gpus, max_retries=WORKER_RESTARTS
            )
            test: dict[str, float] = ray.get(on_worker.remote(*arguments))
        else:
            test = finish_winner(*arguments, backbone=plan.backbone)
        study.note(
            "winner",
            {
                "trial": best.number,
                "metric": study.attributes["metric"],
                "validation": best.score,
                "test": test,
                "bundle": bundle_key(job.name, study.task, study.method),
            },
        )


def _winner(study: Study, best: TrialRecord, job: SearchJob, data: TaskData) -> Winner:
    return Winner(
        task=study.task,
        method=study.method,
        number=best.number,
        text_columns=data.task.text,
        card=model_card(study, best, job, data),
        facts={
            "job": job.name,
            "trial": best.number,
            "params": dict(best.params),
            "seed": best.seed,
            "epoch": best.best_epoch,
            "validation": dict(best.epochs[(best.best_epoch or 1) - 1]["scores"]),
        },
    )


@contextlib.contextmanager
def start_ray(storage: Storage, job: str, *, cluster: bool) -> Iterator[None]:
    """Ray for the length of a search: our own on this machine, or the cluster's.

    Ray puts the folder it is started in onto every worker's module path, where a folder called `search` would
    hide our package: it is started in the job's own folder instead.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the study and MLflow have it all
    neutral = storage.path(job) if storage.is_folder else Path(os.sep)
    with contextlib.chdir(neutral):
        ray.init(
            address="auto" if cluster else "local",
            include_dashboard=None if cluster else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    with _terminate_as_interrupt():
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM, which a stopped Ray job gets, end the search in order like Ctrl-C; Ray's own aborts."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _slots(job: SearchJob, *, cluster: bool) -> Callable[[], int]:
    """How many trials may be live now."""
    fixed = job.resources.concurrent

    def slots() -> int:
        if isinstance(fixed, int):
            return fixed
        there: Mapping[str, float] = ray.cluster_resources()
        room = there.get("CPU", 0) // job.resources.cpus
        if job.resources.gpus:
            room = min(room, there.get("GPU", 0) // job.resources.gpus)
        # On a cluster one more waits, so that an autoscaler sees the demand.
        return max(1, int(room) + (1 if cluster else 0))

    return slots


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
