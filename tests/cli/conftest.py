from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # for the helper torchvision_ops


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder; modules written into it can be imported, and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]


@pytest.fixture
def project(here):
    """The current folder, with a module of a tiny network and data in it."""
    from tests.cli import tiny

    (here / f"{tiny.NAME}.py").write_text(tiny.SOURCE)
    return here


@pytest.fixture
def secateur():
    """Runs a command line in this process; the result has ``exit_code``, ``stdout`` and ``stderr``."""
    from typer.testing import CliRunner

    from secateur.cli.app import app

    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments], prog_name="secateur")
