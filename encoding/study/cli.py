"""The command line: run a study, run the demonstration, look into files."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .runner import Runner

app = typer.Typer(
    name="cerebridge",
    help="The bridge between brains and models: a study file in, results.nc and report.html out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Root = Annotated[
    Path | None, typer.Option(help="Where the paths of the study start, instead of what it says.")
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps, instead of what the study says.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _print_version(asked: bool) -> None:
    if asked:
        from ... import __version__

        typer.echo(f"cerebridge {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
]


@app.callback()
def options(version: Version = False) -> None:
    """Hold the options of all commands."""


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study file (TOML).")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results; default: the study's name.")
    ] = None,
    root: Root = None,
    device: Device = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be done, with bytes and seconds.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Run a study: what is done is skipped, what was interrupted is resumed."""
    from .format import read_study
    from .runner import Runner

    runner = Runner(read_study(study, root), out, device=device)
    if plan:
        typer.echo(runner.plan())
    else:
        _work(runner)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for results.nc and report.html.")] = Path("demo"),
    device: Device = None,
    debug: Debug = False,
) -> None:
    """Relate a small network to a simulated brain whose truth is known; needs no data."""
    from .demo import demo_study
    from .runner import Runner

    _work(Runner(demo_study(), out, device=device))


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="An array, a folder of activations, or results.nc.")],
    debug: Debug = False,
) -> None:
    """Say what is in a file: dimensions, labels, ranges; of results also scores and audit."""
    from .inspection import describe

    typer.echo(describe(file))


@app.command()
def schema(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the tables of the documentation instead.")
    ] = False,
) -> None:
    """Print the JSON schema of study files."""
    from .reference import markdown as tables
    from .validation import schema as load

    typer.echo(tables().rstrip() if markdown else json.dumps(load(), indent=2))


def _work(runner: Runner) -> None:
    try:
        runner.run()
    except KeyboardInterrupt:
        typer.echo("cerebridge: stopped; run the same command again to go on from here.", err=True)
        raise typer.Exit(130) from None


def _show_warning(message: Warning | str, *where: Any, **more: Any) -> None:
    typer.echo(f"cerebridge: warning: {message}", err=True)


def main(arguments: list[str] | None = None) -> Any:
    """Run the command line; a user's mistake is one sentence on standard error, and exit code 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return app(arguments)
    except (ValueError, TypeError, OSError, ImportError) as error:
        if "--debug" in arguments:
            raise
        typer.echo(f"cerebridge: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
