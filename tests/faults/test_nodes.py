"""Ray itself dies, a node of a cluster is lost, or is about to be taken away: trials go on elsewhere."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aftermath import Reference, check_finished, check_interrupted
from clusters import Cluster, Node, start_cluster
from grids import NAME, TRIALS, count_epochs, write_grid
from jobs import adaptune, read_json, read_trials
from processes import Command, command_line, kill_all, marked, wait_until_gone

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("part", ["raylet/raylet", "gcs/gcs_server"])
def test_a_search_whose_ray_dies_ends_and_goes_on_later(
    tmp_path: Path, reference: Reference, part: str
) -> None:
    write_grid(tmp_path)
    storage = tmp_path / "runs"
    command = Command("run", f"{NAME}.yaml", folder=tmp_path)
    assert command.wait_until(lambda: count_epochs(storage) >= 8)
    kill_all(pid for pid in marked(command.mark) if command_line(pid).split(" ")[0].endswith(part))
    output = command.wait(1)
    assert f"adaptune resume {NAME}" in output
    wait_until_gone(command.mark)
    assert check_interrupted(storage, NAME, at_most=TRIALS)
    adaptune("resume", NAME, folder=tmp_path)
    check_finished(storage, NAME, trials=TRIALS, reference=reference, mark=command.mark)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with start_cluster(cpus=1) as cluster:
        yield cluster


def drivers(cluster: Cluster) -> list[int]:
    """Of jobs, on the head."""
    return [pid for pid in cluster.pids() if command_line(pid).rstrip().endswith("--cluster")]


def submit(cluster: Cluster, folder: Path, **changes: Any) -> Path:
    """The grid sent to a cluster; its storage."""
    write_grid(folder, storage=str(cluster.folder / "shared"), **changes)
    adaptune(
        "submit",
        f"{NAME}.yaml",
        "--address",
        cluster.address,
        folder=folder,
        environment=cluster.environment(),
        python=True,
    )
    return cluster.folder / "shared"


def wait_until(reached: Callable[[], bool], otherwise: str, *, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.1)


def wait_for(storage: Path, epochs: int) -> None:
    wait_until(lambda: count_epochs(storage) >= epochs, "the search does not get there")


def wait_for_end(cluster: Cluster, folder: Path) -> None:
    """Until the job that was sent last has ended; shows its log."""
    where = {"folder": folder, "environment": cluster.environment()}
    print(adaptune("logs", NAME, "--follow", "--address", cluster.address, **where).stdout)


def trains_on(storage: Path, node: Node) -> bool:
    """Whether a node has a worker that trains, and trials of it have come some epochs far."""
    return bool(node.workers()) and any(
        trial.state == "running" and 2 <= len(trial.epochs) < 20 for trial in read_trials(storage)
    )


def test_a_lost_node_and_a_lost_driver_cost_no_trial(
    tmp_path: Path, cluster: Cluster, reference: Reference
) -> None:
    """A second node dies with its trials, then the driver; resumed, and exported from another folder."""
    second = cluster.add_node(cpus=2)
    storage = submit(cluster, tmp_path)
    wait_for(storage, 4)
    wait_until(lambda: trains_on(storage, second), "nothing trains on the second node")
    second.kill()
    wait_for(storage, count_epochs(storage) + 10)
    doomed = drivers(cluster)
    assert doomed
    kill_all(doomed)
    wait_for_end(cluster, tmp_path)
    assert check_interrupted(storage, NAME, at_most=TRIALS)

    where = {"folder": tmp_path, "environment": cluster.environment()}
    adaptune("resume", NAME, "--address", cluster.address, **where)
    wait_for_end(cluster, tmp_path)
    check_finished(storage, NAME, trials=TRIALS, reference=reference)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    adaptune("export", NAME, "--storage", storage, "--out", "adapters", folder=elsewhere)
    predict = ("predict", "adapters/topics", "goal team", "--backbone", tmp_path / "encoder", "--json")
    assert json.loads(adaptune(*predict, folder=elsewhere).stdout)["label"] in ("sport", "money")
    results = read_json(adaptune("results", NAME, "--storage", storage, "--json", folder=elsewhere))
    assert results["tasks"][0]["trials"]["failed"] == 0


def test_trials_move_from_a_node_that_is_about_to_be_taken_away(
    tmp_path: Path, cluster: Cluster, reference: Reference
) -> None:
    """A spot notice: the node drains, and is gone at the deadline."""
    second = cluster.add_node(cpus=1)
    storage = submit(cluster, tmp_path)
    wait_until(lambda: trains_on(storage, second), "nothing trains on the second node")
    second.drain(seconds=60)
    wait_until(lambda: not second.workers(), "its trials stay where they are")
    second.kill()
    wait_for_end(cluster, tmp_path)
    check_finished(storage, NAME, trials=TRIALS, reference=reference)


def test_packs_move_with_their_host_from_a_node_that_is_about_to_be_taken_away(
    tmp_path: Path, reference: Reference
) -> None:
    """The head trains nothing; two nodes have room for the one host, and the one that has it drains."""
    with start_cluster(cpus=0) as cluster:
        nodes = [cluster.add_node(cpus=2) for _ in range(2)]
        storage = submit(cluster, tmp_path, resources={"pack": 3})
        wait_for(storage, 6)
        (leaving,) = [node for node in nodes if node.hosts()]
        leaving.drain(seconds=60)
        wait_until(lambda: not leaving.hosts(), "its host stays where it is", seconds=60)
        leaving.kill()
        wait_for_end(cluster, tmp_path)
        check_finished(storage, NAME, trials=TRIALS, reference=reference)
