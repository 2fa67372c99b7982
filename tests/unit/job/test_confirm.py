"""What `confirm` in a job file may not say."""

import pytest
from job_files import job

from search.errors import JobError

REFUSED = [
    (
        {"confirm": {"budget": 0}},
        "confirm.budget = 0.0: needs more than 0. Write e.g. 0.25, a quarter of the",
    ),
    ({"confirm": {"budget": 0.0}}, "to run nothing again, confirm: none."),
    ({"confirm": {"budget": -0.5}}, "confirm.budget = -0.5: needs more than 0."),
    ({"confirm": {"budget": float("nan")}}, "confirm.budget = nan: needs"),
    ({"confirm": {"budget": "much"}}, "confirm.budget = 'much': needs a number"),
    ({"confirm": {"export": "worst"}}, "confirm.export = 'worst': unknown value."),
    ({"confirm": {"top": 0}}, "confirm.top = 0: needs 1 or more."),
    ({"confirm": {"sedes": 3}}, "confirm.sedes = 3: unknown key. Did you mean 'seeds'?"),
    (
        {"confirm": {"top": 3, "budget": 0.5}},
        "confirm.budget = 0.5: top and seeds run a fixed number again, and the best run of all wins. Leave",
    ),
    ({"confirm": {"seeds": 3, "export": "nearest"}}, "confirm.export = 'nearest': top and seeds run a fixed"),
    ({"confirm": "always"}, "confirm = 'always': needs auto, none or a mapping. Write auto, none, or e.g."),
    ({"confirm": 3}, "confirm = 3: needs auto, none or a mapping."),
    ({"confirm": False}, "confirm = False: needs auto, none or a mapping."),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_a_confirm_that_cannot_be_done_is_refused_with_what_to_write(changes, message):
    with pytest.raises(JobError) as caught:
        job(**changes)
    (problem,) = caught.value.problems
    assert message in str(problem)
