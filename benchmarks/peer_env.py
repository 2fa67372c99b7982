"""The peers' environments: each peer needs other versions of transformers than ours. Built once, then reused.

python benchmarks/peer_env.py                       # builds that of `adapters`, prints its Python
python benchmarks/peer_env.py setfit autointent     # builds these
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

PEER = Path(__file__).parent / "peer"
DEFAULT_CACHE = Path.home() / ".cache" / "adaptune"
# What tells of each environment in a report; its requirements are in peer/<name>.txt.
ENVIRONMENTS = {
    "adapters": ("adapters", "torch", "transformers", "accelerate", "ray", "optuna", "mlflow"),
    "setfit": ("setfit", "sentence-transformers", "torch", "transformers", "scikit-learn"),
    "autointent": ("autointent", "sentence-transformers", "torch", "transformers", "optuna"),
}
PACKAGES = ENVIRONMENTS["adapters"]


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--peer-cache",
        type=Path,
        default=DEFAULT_CACHE,
        help="folder that holds the peers' environments, 1 to 2 GB each (default: %(default)s)",
    )


def peer_python(cache: Path, name: str = "adapters") -> Path:
    """The Python of a peer's environment under `cache`, built if it is not there as required."""
    folder, requirements = cache.absolute() / "peers" / name, PEER / f"{name}.txt"
    python, marker = folder / "bin" / "python", folder / "installed"
    if not marker.exists() or marker.read_text() != requirements.read_text():
        print(f"building the environment of {name} in {folder} (minutes)", file=sys.stderr)
        if not python.exists():
            venv.create(folder, with_pip=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", requirements], check=True, stdout=sys.stderr)
        marker.write_text(requirements.read_text())
    return python


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=["adapters"], help=f"of {', '.join(ENVIRONMENTS)}")
    add_cache_option(parser)
    options = parser.parse_args()
    if unknown := set(options.names) - set(ENVIRONMENTS):
        parser.error(
            f"no such environment: {', '.join(sorted(unknown))}; there are {', '.join(ENVIRONMENTS)}"
        )
    for environment in options.names:
        print(peer_python(options.peer_cache, environment))
