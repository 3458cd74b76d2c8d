"""``python -m secateur``: the command line."""

from __future__ import annotations

from secateur.cli import main

main()
