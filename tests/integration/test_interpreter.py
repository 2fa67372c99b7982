"""Ways to start Python that change what libraries can do."""

import os
import subprocess
import sys

import pytest
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
