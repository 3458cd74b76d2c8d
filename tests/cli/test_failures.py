"""Errors become one line and an exit status, whatever they are."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from secateur import errors
from secateur.cli.failures import OneLine, outcome_of


def failing(error):
    app = typer.Typer(cls=OneLine, add_completion=False, pretty_exceptions_enable=False)

    @app.callback()
    def top() -> None:
        """A group, as the real one."""

    @app.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(app, ["fail"])


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (errors.RecipeError("two\nlines"), 2, "error: two lines"),
        (errors.Infeasible("no plan"), 4, "error: no plan"),
        (errors.NotVerified("a cut differs"), 1, "error: a cut differs"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 2, "the disk is full at /x/y"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), 2, "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "access is denied at /x/y"),
        (OSError(errno.EIO, "Input/output error"), 1, "a defect of ours: OSError"),
        (
            ZeroDivisionError("by zero"),
            1,
            "a defect of ours: ZeroDivisionError: by zero (cli/test_failures.py:",
        ),
        (typer.BadParameter("no such thing"), 2, "error: Invalid value: no such thing"),
        (KeyboardInterrupt(), 130, "stopped; run the same command again to resume"),
        (typer.Exit(3), 3, None),
    ],
)
def test_one_line_and_a_status(error, status, words):
    done = failing(error)
    assert (done.exit_code, done.stdout) == (status, "")
    if words is None:
        assert done.stderr == ""
    else:
        assert done.stderr.startswith(words.split(" (")[0]) or words in done.stderr
        assert done.stderr.count("\n") == 1


def test_every_error_of_the_tree_keeps_its_status():
    kinds = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.SecateurError)]
    assert len(kinds) > 10
    for kind in kinds:
        made = kind("x", "y", "z") if kind is errors.MissingExtra else kind("said")
        status, line = outcome_of(made)
        assert status == kind.exit_status and line.startswith("error: ")


def test_the_traceback_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("SECATEUR_DEBUG", "1")
    done = failing(ZeroDivisionError("by zero"))
    assert done.exit_code == 1 and "Traceback" in done.stderr and "a defect of ours" in done.stderr


def run(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "secateur", *arguments], **options, text=True)


def test_python_dash_m(tmp_path):
    shown = run("--help", cwd=tmp_path, env=environment(), capture_output=True)
    assert shown.returncode == 0 and "compress" in shown.stdout and "Traceback" not in shown.stderr
    wrong = run("export", "nowhere", "--to", "onnx", cwd=tmp_path, env=environment(), capture_output=True)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: nowhere is no folder; give the folder of a finished run\n"


def test_help_loads_nothing_heavy(tmp_path):
    code = (
        "import sys, torch; from secateur.cli.app import app; "
        "print([m for m in ('onnx', 'onnxruntime', 'onnxscript', 'sklearn', 'transformers', 'timm', 'jinja2') "
        "if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"


def test_ctrl_c_says_how_to_go_on(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n\ndef build():\n    pathlib.Path('began').touch()\n    time.sleep(60)\n"
    )
    command = [sys.executable, "-m", "secateur", "analyze", "--model", "slow:build", "--input", "1,3"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background jobs ignore it
    )
    for _ in range(600):
        if (tmp_path / "began").exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said == "stopped; run the same command again to resume\n"
    assert process.returncode == 130


def environment():
    import secateur

    return {**os.environ, "PYTHONPATH": str(Path(secateur.__file__).parents[1])}
