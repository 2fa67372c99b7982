"""What this machine has for a search, as Ray counts it, and what a job asks of it in vain."""

from collections.abc import Mapping
from dataclasses import dataclass

from search.errors import Problem
from search.job.parts import ResourcesPart

ELSEWHERE = "or run it on a cluster that has them (`adaptune submit`)"


@dataclass(frozen=True)
class Machine:
    """Resources of one machine: what one trial can get at most.

    Attributes:
        cpus: those that a container's limit leaves, where there is one.
        gpus: those that CUDA_VISIBLE_DEVICES leaves.
        name: what messages call it.
    """

    cpus: float
    gpus: float
    name: str = "this machine"


def this_machine() -> Machine:
    """This machine, as a Ray that is started here will see it."""
    from ray._private.accelerators import get_accelerator_manager_for_resource
    from ray._private.utils import get_num_cpus

    manager = get_accelerator_manager_for_resource("GPU")
    gpus = manager.get_current_node_num_accelerators()
    visible = manager.get_current_process_visible_accelerator_ids()
    return Machine(get_num_cpus(), gpus if visible is None else min(gpus, len(visible)))


def missing_resources(resources: ResourcesPart, machine: Machine) -> list[Problem]:
    """What a trial asks for and will never get there."""
    problems = []
    if resources.cpus > machine.cpus:
        rule = f"{machine.name} has {_count(machine.cpus, 'CPU')} for a trial"
        fix = f"Write {max(1, int(machine.cpus))} or fewer, {ELSEWHERE}."
        problems.append(Problem("resources.cpus", resources.cpus, rule, fix))
    if resources.gpus > machine.gpus:
        rule = f"{machine.name} has {_count(machine.gpus, 'GPU')} for a trial"
        fix = f"Write {machine.gpus:g} or fewer" if machine.gpus else "Write `gpus: 0`"
        problems.append(Problem("resources.gpus", resources.gpus, rule, f"{fix}, {ELSEWHERE}."))
    return problems


def needs_a_look(resources: ResourcesPart) -> bool:
    """Whether a machine may lack what is asked for; each has a CPU."""
    return resources.cpus > 1 or resources.gpus > 0


def best_node(nodes: list[Mapping[str, float]], name: str) -> Machine:
    """The most that a node of a cluster has, given the resources of each."""
    return Machine(
        max((node.get("CPU", 0.0) for node in nodes), default=0.0),
        max((node.get("GPU", 0.0) for node in nodes), default=0.0),
        name,
    )


def _count(number: float, unit: str) -> str:
    if not number:
        return f"no {unit}"
    return f"{number:g} {unit}{'' if number == 1 else 's'}"
