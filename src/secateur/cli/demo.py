"""``secateur demo``: the main job on an embedded default, in a few minutes and without a network.

The trained network is kept beside the run, so that a demo that was stopped goes on from it; if that file is gone, the
network is trained again, which gives the same one on the same machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from torch import nn

MODEL = "secateur.cli.demo_model:train_demo_model"
RECIPE: dict[str, Any] = {
    "model": MODEL,
    "data": "digits",
    "budget": {"latency": "0.5x", "drop": "1.0"},
    "target": "onnxruntime:auto",
    "schedule": {"most": 0.2},
    "recovery": {"lr": 1e-3, "epochs": 1, "final_epochs": 2},
}
"""The demo as a recipe; ``secateur compress`` on the recipe.yaml of its run does the same."""


def demo(
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder of the run.")] = Path("runs/demo"),
    quiet: Annotated[bool, typer.Option("--quiet", help="Only the verdict.")] = False,
) -> None:
    """Train a small network on digits and compress it to half its latency at no more than one point of accuracy."""
    from secateur.cli.datasets import resolve_data
    from secateur.cli.outcome import show_run
    from secateur.cli.running import check_out, run_recipe
    from secateur.deploy import runtime_named
    from secateur.errors import MissingExtra
    from secateur.recipe import recipe_from

    recipe = recipe_from(RECIPE, "the demo")
    check_out(out, recipe)
    resolve_data("digits")
    if not runtime_named("onnxruntime").available():
        raise MissingExtra("onnxruntime", "demo", "the demo")
    run = run_recipe(recipe, out, quiet, dense_model(kept_at(out), quiet))
    show_run(run, quiet)
    raise typer.Exit(run.exit_status)


def kept_at(out: Path) -> Path:
    """Where the demo's trained network is kept: beside the run, not in it."""
    whole = out.absolute()
    return whole.with_name(f"{whole.name}.dense.safetensors")


def dense_model(path: Path, quiet: bool = False) -> nn.Module:
    """The trained network of the demo: from the file if it holds one, else trained and kept there.

    Raises:
        RunFolderError: the file cannot be written.
    """
    from safetensors.torch import save_file

    from secateur.cli.demo_model import DemoNet
    from secateur.cli.models import check_finite
    from secateur.cli.screen import line
    from secateur.cli.weights import load_weights_
    from secateur.errors import SecateurError
    from secateur.files import whole_file

    if path.is_file():
        network = DemoNet().eval()
        try:
            load_weights_(network, path)
            check_finite(network, str(path))
        except SecateurError as error:
            if not quiet:
                line(f"{error}; it is trained again")
        else:
            if not quiet:
                line(f"the demo network, as trained before: {path}")
            return network
    trained = train(quiet)
    with whole_file(path) as temporary:
        save_file({name: tensor.clone() for name, tensor in trained.state_dict().items()}, str(temporary))
    return trained


def train(quiet: bool = False) -> nn.Module:
    """Trains the demo's network, with a progress bar unless ``quiet``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from secateur.cli.demo_model import EPOCHS, train_demo_model

    columns = (
        TextColumn("training the demo network"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, loss {task.fields[loss]:.3f},"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    console = Console(stderr=True)
    if not quiet and not console.is_terminal:  # a bar shows nothing there until it is full
        console.print(f"training the demo network, {EPOCHS} epochs")
    with Progress(*columns, console=console, disable=quiet) as progress:
        bar = progress.add_task("", total=None, loss=float("nan"))
        return train_demo_model(
            progress=lambda step, steps, loss: progress.update(bar, completed=step, total=steps, loss=loss)
        )
