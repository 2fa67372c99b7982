"""One job from start to end on Ray: open the record, search, select, export. A resume is the same again."""

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
import torch

from pipelines.encoder.precision import resolve_precision
from pipelines.encoder.sharing import share
from pipelines.method import METHODS
from pipelines.tasks.rows import TaskData
from search.agenda import Agenda
from search.commands import command, storage_options
from search.database import claim_lock, describe_loss
from search.decisions.budget import Budget
from search.decisions.confirmation import Confirm
from search.decisions.rules import Rules
from search.delivery import tracking
from search.driver import SearchClock, drive, forget_dead_driver
from search.errors import (
    Interrupted,
    SearchError,
    StorageError,
    UserError,
    first_line,
    storage_failure,
)
from search.experience import begin, gather
from search.job.job import SearchJob, differences
from search.job.parts import ResourcesPart
from search.leaders import find_leaders
from search.local.machine import best_node, local_problems, missing_resources
from search.local.session import check_callers_ray, start_ray
from search.local.signals import terminate_as_interrupt
from search.plan import Plan, make_plan
from search.progress import Progress
from search.record import Experience, Leaders, StudyFacts, Trial
from search.results import has_record, is_finished, job_results
from search.secrets import hide_secrets
from search.storage import Storage, checkpoint_folder
from search.study import Record, Study
from search.tracking.client import keep_secret
from search.tuning import run_trials
from search.winner import finish_studies
from search.workers.checkpoints import unwritable
from search.workers.context import WorkerContext
from search.workers.reports import HostState

log = logging.getLogger(__name__)


def run(
    job: SearchJob,
    *,
    source: str = "job",
    cluster: bool = False,
    mend: bool = False,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a job to its end, or go on with it; returns what `adaptune results --json` prints.

    A finished job is not run again.

    Args:
        source: what errors call the job.
        cluster: join the Ray cluster that this process belongs to, instead of starting Ray here.
        mend: of a finished job, compare MLflow with the record once more.
        retry_failed: try the configurations again whose trials failed; a finished job is opened once more.
        progress: told of what happens.

    Raises:
        JobError, UserError: the job cannot be run as it is; nothing was started.
        StorageError: the storage or the database gave way; what was recorded is kept.
        Interrupted: stopped by a signal.
        TakenOver: another process drives the job now.
    """
    with terminate_as_interrupt():
        return _run(
            job,
            progress or Progress(),
            source=source,
            cluster=cluster,
            mend=mend,
            retry_failed=retry_failed,
        )


def _run(
    job: SearchJob, progress: Progress, *, source: str, cluster: bool, mend: bool, retry_failed: bool
) -> dict[str, Any]:
    storage = Storage(job.storage, job.database)
    progress.message(f"{job.name}: reading the data, loading the encoder")
    if ray.is_initialized() and not cluster:
        check_callers_ray()
    problems = [] if cluster else local_problems(job.resources)
    if problems and _has_finished(storage, job.name):
        problems = []  # it only tells what came out, on whatever machine
    plan = make_plan(job, source=source, problems=problems)
    storage.prepare()
    with _saying_what_gave_way(storage), Record(storage) as record:
        studies = open_studies(record, storage, plan)
        if retry_failed:
            with drive(storage, studies, say=progress.message):
                reopened = [study.reopen() for study in studies]
                if not any(reopened):
                    progress.message(f"{job.name}: no trial is to be tried again")
        if not is_finished(studies):
            with drive(storage, studies, say=progress.message) as clock:
                storage.tidy(job.name)
                for study in studies:
                    study.hold()
                _search(plan, storage, studies, clock=clock, cluster=cluster, progress=progress)
                storage.tidy(job.name)  # of workers that were killed while they wrote
        elif mend or not studies[0].tracked:
            with (
                drive(storage, studies, say=progress.message),
                tracking(job, storage, studies, progress, catching_up=True),
            ):
                progress.message(f"{job.name}: is finished; bringing MLflow up to date")
        else:
            forget_dead_driver(storage, studies)
        return job_results(studies, storage)


def _has_finished(storage: Storage, job: str) -> bool:
    if not has_record(storage):
        return False
    with Record(storage) as record:
        studies = [study for study in record.studies(job) if study.is_made]
        return bool(studies) and is_finished(studies)


@contextlib.contextmanager
def _saying_what_gave_way(storage: Storage) -> Iterator[None]:
    try:
        yield
    except StorageError as error:
        raise StorageError(str(getattr(error, "cause", error))) from error  # `cause`: of one from a worker
    except SearchError:
        raise
    except Exception as error:
        cause = storage_failure(error)
        if cause is None:
            raise
        if isinstance(cause, OSError):
            elsewhere = cause.filename is not None and not str(cause.filename).startswith(storage.root)
            what = f"{cause.filename} cannot be written ({cause.strerror})"
            raise StorageError(what if elsewhere else unwritable(storage, cause)) from error
        where = hide_secrets(storage.database_url)
        if (loss := describe_loss(storage)) is not None:
            raise StorageError(loss) from error
        raise StorageError(
            f"storage {storage.root} cannot be written or read: its database {where} answers "
            f"{hide_secrets(first_line(cause), storage.database_url)}"
        ) from error


def open_studies(record: Record, storage: Storage, plan: Plan) -> tuple[Study, ...]:
    """The job's studies: made, or found as they were left.

    Raises:
        UserError: there is a job of this name with another content, other rows or another backbone.
    """
    job = plan.job
    wanted = {f"{job.name}/{data.task.name}/{method}": data for data in plan.tasks for method in job.methods}
    with claim_lock(storage):
        made = {study.name: study for study in record.studies(job.name) if study.is_made}
        for study in made.values():
            _refuse_other(study, plan, wanted.get(study.name), storage)
        learned: dict[str, Experience] = {}
        studies = []
        for position, (name, data) in enumerate(wanted.items()):
            if name not in made:
                method = name.rpartition("/")[2]
                if method not in learned:
                    learned[method] = gather(
                        record,
                        job,
                        method,
                        fingerprint=plan.backbone.fingerprint,
                        vectors=plan.vector_fingerprints,
                    )
                facts = _study_facts(plan, data, position, begin(plan, data, method, learned[method]))
                # Of a job of this name whose study file was lost or moved away.
                storage.delete(checkpoint_folder(job.name, data.task.name, name.rpartition("/")[2]))
                made[name] = record.create_study(name, facts)
            studies.append(made[name])
        keep_secret(job.tracking.uri, storage)
    storage.write(f"{job.name}/job.json", _json(job.to_record()))
    return tuple(studies)


def _study_facts(plan: Plan, data: TaskData, position: int, experience: Experience) -> StudyFacts:
    return StudyFacts(
        position=position,
        metric=data.task.metric,
        data_fingerprint=data.fingerprint,
        backbone_fingerprint=plan.backbone.fingerprint,
        backbone_parameters=plan.backbone.parameters,
        vectors=plan.vector_fingerprints,
        sizes={name: len(split) for name, split in data.splits.items()},
        experience=experience,
        content=plan.job.content(),
        job=plan.job.to_record(),
    )


def _refuse_other(study: Study, plan: Plan, data: TaskData | None, storage: Storage) -> None:
    old = study.facts
    what = differences(old.content, plan.job.content())
    if not what and data is not None and old.data_fingerprint != data.fingerprint:
        what = [f"the rows of task {data.task.name!r} are not those it was started with"]
    if not what and old.backbone_fingerprint != plan.backbone.fingerprint:
        what = [f"backbone {plan.backbone.name!r} has other weights, config or tokenizer than it had"]
    if not what and old.vectors != plan.vector_fingerprints:
        what = ["the word vectors under `vectors` are not those it was started with"]
    if what:
        name = plan.job.name
        same = not differences(old.content, plan.job.content())  # then `resume` is refused for this too
        go_on = f"Go on with that one as it is (`{command('resume', name, *storage_options(storage))}`)"
        if same:
            go_on = "To go on with that one, put the rows, the encoder or the vectors back as they were"
        raise UserError(
            f"there is a job {name!r} under {storage.root} already, and this one differs from it:\n"
            + "".join(f"  {line}\n" for line in what)
            + f"{go_on}; to search anew, give this one another name or storage."
        )


def _search(
    plan: Plan,
    storage: Storage,
    studies: Sequence[Study],
    *,
    clock: SearchClock,
    cluster: bool,
    progress: Progress,
) -> None:
    job = plan.job
    progress.message("starting Ray" if not cluster else "joining the Ray cluster")
    with (
        start_ray(storage, job.name, cluster=cluster, warn=progress.warn),
        tracking(job, storage, studies, progress) as tracker,
        _saying_what_gave_way(storage),
    ):

        def on_change(study: Study, number: int) -> None:
            tracker.notify(study, number)
            progress.update(study, study.trial(number))

        def on_states(states: Sequence[HostState]) -> None:
            tracker.note_hosts(states)
            progress.hosts(states)

        try:
            if cluster:
                _warn_of_missing(job.resources, progress)
            progress.start([(study, plan.trials_of(study.method)) for study in studies])
            context = _worker_context(plan, storage, progress)
            agendas = [_agenda(study, plan, context, progress) for study in studies]
            run_trials(
                job,
                context,
                agendas,
                cluster=cluster,
                on_change=on_change,
                on_states=on_states,
                check_budget=lambda: _check_budget(job, agendas, clock, progress),
                warn=progress.warn,
            )
            clock.check()
            if any(agenda.is_open for agenda in agendas):
                raise Interrupted(job.name)
            finish_studies(plan, context, studies, cluster=cluster, progress=progress)
        finally:
            progress.stop()


def _agenda(study: Study, plan: Plan, context: WorkerContext, progress: Progress) -> Agenda:
    job, confirm = plan.job, plan.job.confirm
    find: Callable[[Sequence[Trial]], Leaders] | None = None
    if confirm is not None and not confirm.counted and METHODS[study.method].seeded:
        if study.facts.job.get("confirm") is not None:
            find = functools.partial(
                find_leaders, study=study, context=context, confirm=confirm, say=progress.message
            )
        else:  # it was begun without, or by a version that had no `auto`
            progress.message(f"{study.name}: goes on as it was begun, without confirming its leaders")
    return Agenda(
        study,
        job.space_for(study.method),
        sampler=job.search.sampler,
        seed=job.search.seed,
        trials=job.search.trials,
        rules=Rules(job.search.scheduler, job.search.reduction, job.search.patience, job.search.pareto),
        first=[
            params
            for params in study.facts.experience.portfolio
            if plan.allows(study.task, study.method, params)
        ],
        allows=functools.partial(plan.allows, study.task, study.method),
        confirm=Confirm(confirm.top, confirm.seeds) if confirm and confirm.top and confirm.seeds else None,
        find_leaders=find,
        refit=job.refits,
    )


def _warn_of_missing(resources: ResourcesPart, progress: Progress) -> None:
    """Say what no node of the cluster has of what a trial asks for: an autoscaler may bring one."""
    nearest = best_node(resources, "the node of the cluster that comes nearest")
    for problem in missing_resources(resources, nearest):
        progress.warn(f"{problem} Until a node comes that has them, trials wait.")


def _check_budget(job: SearchJob, agendas: Sequence[Agenda], clock: SearchClock, progress: Progress) -> None:
    """Stop the studies that have reached what they were given, or what is good enough; see that the job is
    still ours.
    """
    clock.check()
    budget = Budget(**job.budget.model_dump())
    spent = sum(agenda.seconds for agenda in agendas)
    used_up = budget.used_up(seconds=clock.seconds, training_seconds=spent)
    for agenda in agendas:
        reason = used_up or budget.reached(agenda.best, agenda.study.facts.metric)
        if reason is not None and agenda.stopped is None and agenda.is_searching:
            agenda.stop(reason)
            progress.message(f"{agenda.study.name}: {reason}; what runs ends at its next epoch")


def _worker_context(plan: Plan, storage: Storage, progress: Progress) -> WorkerContext:
    job = plan.job
    encoded = plan.encode()
    for task in encoded:
        for note in task.notes:
            progress.message(f"{task.name}: {note}")
    gpu = job.resources.gpus > 0
    # Whole encoder weights train from the full precision; all else computes with what is stored.
    rounds = not gpu and not any(METHODS[method].whole_weights for method in job.methods)
    precision = resolve_precision(job.precision, torch.device("cpu")) if rounds else "fp32"
    return WorkerContext(
        job=job.name,
        storage=storage,
        backbone=ray.put(share(plan.backbone, precision)),
        tasks={task.name: ray.put(task) for task in encoded},
        pooling=plan.pooling,
        precision=job.precision,
        threads=None if gpu else job.resources.cpus,
        gpu=gpu,
        cache=job.cache.gigabytes,
        compiles=job.resources.compile == "auto",
        folds=job.split.folds or 1,
        methods=tuple(METHODS[method] for method in job.methods),
        vectors={name: ray.put(replace(table)) for name, table in plan.vectors.items()},
    )


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
