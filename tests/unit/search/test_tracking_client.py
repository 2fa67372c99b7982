"""Where MLflow's artifacts go."""

from pathlib import Path

import pytest

from search.storage import Storage
from search.tracking.client import find_experiment


class Experiments:
    """As much of an MLflow client as makes experiments: keeps where their artifacts were sent."""

    def __init__(self):
        self.locations = []

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name, artifact_location):
        self.locations.append(artifact_location)
        return "1"


def location(tmp_path, name):
    client, storage = Experiments(), Storage(str(tmp_path))
    find_experiment(client, name, storage, uri=storage.tracking_uri)
    return client.locations[0], storage


@pytest.mark.parametrize(
    "name", ["../../../x", "/etc", "..", "team/../../x", "a\\b", "a%2Fb", "a?b", "\x1b[2J", "…"]
)
def test_an_experiments_artifacts_stay_below_the_storage_whatever_it_is_called(tmp_path, name):
    folder, storage = location(tmp_path, name)
    base, _, last = folder.rpartition("/")
    assert base == storage.artifacts
    assert set(last) <= {*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"}
    assert Path(tmp_path, last).resolve().parent == tmp_path


def test_two_such_names_have_two_folders(tmp_path):
    assert location(tmp_path, "a/b")[0] != location(tmp_path, "a?b")[0]


def test_a_plain_name_is_the_folders_own(tmp_path):
    folder, storage = location(tmp_path, "tickets-2026")
    assert folder == f"{storage.artifacts}/tickets-2026"
