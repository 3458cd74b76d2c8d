"""The statement of the user's code that a line belongs to: a call may be written over several lines."""

from __future__ import annotations

import ast
import functools
import linecache


def statement_at(file: str, line: int) -> str:
    """The text of the innermost statement that covers a line; of a loop or a condition its head alone.

    Args:
        file: a Python source file.
        line: counted from one.

    Returns:
        The text, or the line alone where the file cannot be read as Python.
    """
    lines = linecache.getlines(file)
    start, stop = _spans(file, len(lines)).get(line, (line, line))
    return "".join(lines[start - 1 : stop])


@functools.lru_cache(maxsize=64)
def _spans(file: str, _: int) -> dict[int, tuple[int, int]]:
    """For each line of a file, the first and last line of its statement."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return {}
    found: dict[int, tuple[int, int]] = {}
    for node in ast.walk(tree):  # from the outside in
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            inside = body[0].lineno - 1 if body and isinstance(body, list) else node.end_lineno
            last = max(node.lineno, inside or node.lineno)
            found.update(dict.fromkeys(range(node.lineno, last + 1), (node.lineno, last)))
    return found
