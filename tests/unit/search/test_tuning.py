"""What becomes of an error that ends Tune's run."""

from types import SimpleNamespace

import pytest
from ray.tune import TuneError

from search import tuning
from search.errors import storage_failure
from search.storage import Storage


class Failing:
    """A Tuner that makes a text of whatever its hooks raise, as Tune does."""

    def __init__(self, *_, **__):
        pass

    def fit(self):
        raise TuneError("a text")


def gone():
    """What Optuna raises when its database is gone."""
    try:
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("An exception is raised during the commit") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("problem", [gone(), None])
def test_an_error_of_ours_keeps_its_own_cause(problem, tmp_path, monkeypatch):
    """It says whether the storage gave way."""
    monkeypatch.setattr(tuning.tune, "Tuner", Failing)
    searcher = SimpleNamespace(problem=problem)
    context = SimpleNamespace(storage=Storage(str(tmp_path)))
    with pytest.raises(TuneError if problem is None else RuntimeError) as caught:
        tuning._fit(SimpleNamespace(name="job"), None, searcher, None, context)
    assert (storage_failure(caught.value) is not None) == (problem is not None)
