"""``secateur sweep``: named in the contract, and not there yet."""

from __future__ import annotations

from secateur.errors import RequestError


def sweep() -> None:
    """A family of plans over many budgets (not available in this version)."""
    raise RequestError(
        "sweep is not available in this version; run 'secateur compress' once for each budget, and compare the runs "
        "with 'secateur report RUN...'"
    )
