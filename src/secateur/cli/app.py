"""The list of commands.

To add a command: write a file with a function of its name, and register it here.
"""

from __future__ import annotations

from typing import Annotated

import typer

from secateur.cli.analyze import analyze
from secateur.cli.bench import bench
from secateur.cli.compress import compress
from secateur.cli.demo import demo
from secateur.cli.doctor import doctor
from secateur.cli.explain import explain
from secateur.cli.export import export
from secateur.cli.failures import OneLine
from secateur.cli.report import report
from secateur.cli.sweep import sweep

app = typer.Typer(
    cls=OneLine,
    help="A trained PyTorch model and a budget in, a proven smaller artifact out.",
    epilog="Exit status: 0 met, 2 a wrong request, 3 missed, 4 infeasible, 1 a defect of ours.",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def secateur(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="The version, and nothing else.")] = False,
) -> None:
    """A trained PyTorch model and a budget in, a proven smaller artifact out."""
    if version:
        from secateur import __version__

        print(f"secateur {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit()


app.command()(demo)
app.command()(doctor)
app.command()(analyze)
app.command()(explain)
app.command()(compress)
app.command()(sweep)
app.command()(bench)
app.command()(export)
app.command()(report)
