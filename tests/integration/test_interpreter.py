"""Ways to run our code from Python that are not the command's own."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from clusters import make_state_folder
from jobs import write_job
from tiny import save_tiny_encoder

pytestmark = pytest.mark.integration

LOAD = """
import sys
from pipelines.encoder.backbone import load_backbone
from pipelines.errors import InputError
try:
    load_backbone(sys.argv[1])
except InputError as error:
    print(error)
"""

# No `if __name__ == "__main__"`, inside a running loop, with a Ray of its own: as a notebook does it.
SCRIPT = """
import asyncio, json, sys
import ray
from search import SearchJob, run
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
async def search():
    return run(SearchJob.load(sys.argv[1]))
results = asyncio.run(search())
squares = ray.get([ray.remote(lambda n: n * n).remote(n) for n in range(3)])  # it is there, and works
print(json.dumps({"state": results["state"], "trials": results["tasks"][0]["trials"], "squares": squares}))
"""


@pytest.fixture
def ray_folder():
    folder = make_state_folder()
    yield folder
    shutil.rmtree(folder)


def test_a_script_without_a_guard_searches_inside_a_loop_on_the_ray_that_it_has_started(tmp_path, ray_folder):
    job = write_job(
        tmp_path, search={"trials": 2, "scheduler": "none"}, space={"adapter_size": [2, 4], "epochs": [1]}
    )
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, job],
        cwd=tmp_path,
        env={**os.environ, "RAY_TMPDIR": str(ray_folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["state"], found["trials"]["complete"]) == ("finished", 2)
    assert found["squares"] == [0, 1, 4]
    assert "open to all" not in done.stderr  # its folder lies in a closed one


def test_a_python_without_docstrings_is_named_and_not_the_backbone(tmp_path):
    save_tiny_encoder(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(tmp_path)],
        env={**os.environ, "PYTHONOPTIMIZE": "2"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "cannot be loaded by a Python without docstrings" in done.stdout
    assert "Unset PYTHONOPTIMIZE" in done.stdout
