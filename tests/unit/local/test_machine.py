"""What a job asks of a machine in vain."""

import pytest
import ray

from search.job.parts import ResourcesPart
from search.local import machine
from search.local.machine import Machine, local_problems, missing_resources, this_machine

LAPTOP = Machine(cpus=2, gpus=0)


def told(asked, there=LAPTOP):
    return [str(problem) for problem in missing_resources(ResourcesPart(**asked), there)]


@pytest.mark.parametrize("asked", [{}, {"cpus": 2}, {"cpus": 1, "concurrent": 64}])
def test_what_a_machine_has_may_be_asked_for(asked):
    assert told(asked) == []


def test_cpus_that_a_machine_lacks_are_named_with_what_it_has():
    (message,) = told({"cpus": 64})
    assert message.startswith("resources.cpus = 64: this machine has 2 CPUs for a trial. Write 2 or fewer")


@pytest.mark.parametrize("gpus", [0.5, 1])
def test_a_gpu_that_a_machine_lacks_is_named(gpus):
    (message,) = told({"gpus": gpus})
    assert "this machine has no GPU for a trial. Write `gpus: 0`, or run it on a cluster" in message


def test_all_that_is_lacking_is_told_at_once():
    assert len(told({"cpus": 3, "gpus": 2}, Machine(cpus=2, gpus=1))) == 2


def test_cpus_are_counted_as_ray_does(monkeypatch):
    monkeypatch.setattr(ray._private.utils, "_get_docker_cpus", lambda: 1.5)  # a container's limit
    assert this_machine().cpus == 1


def test_gpus_are_those_that_the_environment_leaves(monkeypatch):
    manager = ray._private.accelerators.get_accelerator_manager_for_resource("GPU")
    monkeypatch.setattr(manager, "get_current_node_num_accelerators", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert this_machine().gpus == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert this_machine().gpus == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert this_machine().gpus == 0


def test_the_ray_of_the_caller_is_asked_where_there_is_one(monkeypatch):
    nodes = [{"Alive": True, "Resources": {"CPU": 1.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    (problem,) = local_problems(ResourcesPart(cpus=2))
    assert "the Ray that runs in this process has 1 CPU " in str(problem)


def test_a_job_that_asks_for_little_costs_no_look(monkeypatch):
    monkeypatch.setattr(machine, "this_machine", lambda: pytest.fail("Ray was imported for nothing"))
    assert local_problems(ResourcesPart()) == []
