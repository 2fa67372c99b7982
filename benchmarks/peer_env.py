"""The peers' environment: `adapters` needs another transformers than ours. Built once, then reused.

python benchmarks/peer_env.py            # builds it, prints its Python
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

PEER = Path(__file__).parent / "peer"
REQUIREMENTS = PEER / "requirements.txt"
DEFAULT_CACHE = Path.home() / ".cache" / "adaptune"
PACKAGES = ("adapters", "torch", "transformers", "accelerate", "ray", "optuna", "mlflow")


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peer-cache",
        type=Path,
        default=DEFAULT_CACHE,
        help="folder that holds the peers' environment, about 2 GB (default: %(default)s)",
    )


def peer_python(cache: Path) -> Path:
    """The Python of the peers' environment under `cache`, built if it is not there as required."""
    folder = cache.absolute() / "peer"
    python, marker = folder / "bin" / "python", folder / "installed"
    if not marker.exists() or marker.read_text() != REQUIREMENTS.read_text():
        print(f"building the peers' environment in {folder} (minutes)", file=sys.stderr)
        if not python.exists():
            venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", REQUIREMENTS], check=True)
        marker.write_text(REQUIREMENTS.read_text())
    return python


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add_cache_option(parser)
    print(peer_python(parser.parse_args().peer_cache))
