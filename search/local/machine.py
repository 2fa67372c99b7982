"""What this machine has for a search, as Ray counts it, and what a job asks of it in vain."""

from dataclasses import dataclass
from typing import Any

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


def local_problems(resources: ResourcesPart) -> list[Problem]:
    """What a trial asks for and will never get where a local run would have it: on this machine, or from the
    Ray that the caller has started.
    """
    if resources.cpus <= 1 and resources.gpus == 0:
        return []  # every machine has that; Ray takes a second to import
    import ray

    if ray.is_initialized():
        return missing_resources(resources, best_node(resources, "the Ray that runs in this process"))
    return missing_resources(resources, this_machine())


def this_machine() -> Machine:
    """This machine, as a Ray that is started here will see it."""
    from ray._private import accelerators, utils

    manager: Any = accelerators.get_accelerator_manager_for_resource("GPU")
    gpus = manager.get_current_node_num_accelerators()
    visible = manager.get_current_process_visible_accelerator_ids()
    return Machine(utils.get_num_cpus(), gpus if visible is None else min(gpus, len(visible)))


def best_node(resources: ResourcesPart, name: str) -> Machine:
    """The node that comes nearest to what a trial asks for, of the Ray that this process belongs to: one that
    has all of it, else one with the GPUs. `name` is what messages call it.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    machines = [Machine(node.get("CPU", 0.0), node.get("GPU", 0.0), name) for node in nodes]

    def fit(machine: Machine) -> tuple[bool, float, float]:
        return not missing_resources(resources, machine), min(machine.gpus, resources.gpus), machine.cpus

    return max(machines, key=fit, default=Machine(0, 0, name))


def missing_resources(resources: ResourcesPart, machine: Machine) -> list[Problem]:
    """What a trial asks for and a machine does not have."""
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


def _count(number: float, unit: str) -> str:
    if not number:
        return f"no {unit}"
    return f"{number:g} {unit}{'' if number == 1 else 's'}"
