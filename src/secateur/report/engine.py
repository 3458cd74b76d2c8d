"""The template engine of the pages: everything variable is escaped, and a name that is missing is an error."""

from __future__ import annotations

from importlib import resources
from typing import Any


def rendered(template: str, **values: Any) -> str:
    """A page from one of the package's templates, with the style sheet in it."""
    import jinja2

    engine = jinja2.Environment(
        loader=jinja2.FunctionLoader(_packaged),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return engine.get_template(template).render(style=_packaged("style.css"), **values)


def _packaged(name: str) -> str:
    return resources.files("secateur.report").joinpath(name).read_text(encoding="utf-8")
