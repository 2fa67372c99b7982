"""The command `adaptune`: its groups of commands put together, and how it ends.

A command is a function in a module of this room, or a new one:

    commands = typer.Typer()

    @commands.command(rich_help_panel=HERE)
    def frobnicate(name: Name, storage: StorageOption = None) -> None:
        \"""What it does, as --help says it.\"""
        from search.frobnication import frobnicate  # heavy imports inside: --help is quick

        out.print(frobnicate(name, open_storage(storage)))

A new module is one line in GROUPS below. Options that commands share, and the consoles, are in `terminal`.
What a user can cause is raised as one of the errors of `search.errors` or `pipelines.errors`.
"""

import logging
import os
import signal
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from pipelines.errors import PipelineError
from search.cli import analyse, check, cluster, data, lookup, predict, report, results, run, ui
from search.cli.terminal import err, logged, prepare_streams, write
from search.errors import SearchError
from search.local.private import ensure_home
from search.secrets import hide_secrets

GROUPS = (check, run, results, predict, ui, report, analyse, cluster, data, lookup)  # in the order of --help

app = typer.Typer(
    name="adaptune",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="AutoML for adapters: one frozen text encoder, many tasks, the best small adapter for each.\n\n"
    "Start with [bold]adaptune check job.yaml[/bold], then [bold]adaptune run job.yaml[/bold].",
)
for group in GROUPS:
    app.add_typer(group.commands)


def _print_version(asked: bool) -> None:
    if asked:
        write(f"adaptune {version('adaptune')}\n")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    _: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    ensure_home()
    os.environ["ADAPTUNE_DEBUG"] = "1" if debug else os.environ.get("ADAPTUNE_DEBUG", "")


def main() -> None:
    """Run the command. Exit codes: 0 done; 1 the work failed; 2 the input was wrong; 130 interrupted."""
    prepare_streams()
    for package in ("search", "pipelines"):
        logging.getLogger(package).addHandler(logged)
    try:
        code = app(standalone_mode=False)
        if code == 130:  # typer's own answer to Ctrl-C, which says nothing
            _fail("interrupted", 130)
    except TyperException as error:  # the command line itself is wrong
        problem: Any = error  # its kinds know how to show themselves
        problem.show()
        code = 2
    except (typer.Abort, KeyboardInterrupt):
        code = _fail("interrupted", 130)
    except Exception as error:
        if os.environ.get("ADAPTUNE_DEBUG"):
            raise
        code = _fail(*_explain(error))
    sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> tuple[str, int]:
    """What to say about an error, and the exit code."""
    if isinstance(error, SearchError | PipelineError):
        return str(error), error.exit_code
    notes = ["`adaptune --debug …` shows where.", *getattr(error, "__notes__", [])]
    return "\n".join([f"{type(error).__name__}: {error}", *notes]), 1


def _fail(message: str, code: int) -> int:
    if code == 130:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends: one more would only change the exit code
    err.print(hide_secrets(message), soft_wrap=True)
    return code
