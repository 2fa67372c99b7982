"""The record of commit 438765f is read as it was written."""

import pytest
from old_formats import expected, unpack, without_newer_keys

from search.report.report import read_report, report_files
from search.results import read_results
from search.storage import Storage

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return unpack(tmp_path_factory.mktemp("old"))


@pytest.mark.parametrize("job", ["methods", "kinds", "topics"])
def test_the_results_of_an_old_record_are_what_they_were(old, job):
    results = read_results(job, Storage(str(old / "runs")))
    assert without_newer_keys(results) == expected(old)[job]


def test_an_old_record_can_be_reported(old):
    files = report_files(read_report(["methods", "kinds"], Storage(str(old / "runs"))))
    page = files["report.md"].decode()
    for method in ("adapter", "fine_tune", "top_layers", "layer_norm", "embeddings"):
        assert method in page
    assert "similarity" in page
    assert "animals" in page
