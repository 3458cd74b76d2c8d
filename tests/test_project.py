"""Rules of the project that no tool checks: what the README says is true, and nothing is unpickled."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from secateur import errors

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "secateur"
ROOMS = sorted(p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__")
CODE = sorted(p for top in ("src", "tests", "examples", "benchmarks") for p in (ROOT / top).rglob("*.py"))

UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}

# The names that users' scripts rely on. Adding one is a decision; losing one breaks somebody.
PUBLIC = {
    *("prune", "trace", "find_groups", "score", "allocate", "cut", "compress", "save", "load"),
    *("Plan", "Budget", "Task", "Magnitude", "Taylor", "Random", "Params", "Macs"),
    *("SecateurError", "RequestError", "Infeasible", "NotExportable", "NotVerified"),
}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What in a file could run code from data: imports of unpicklers, and loads that may unpickle."""
    for name in imported(tree):
        if name.split(".")[0] in UNPICKLERS:
            yield f"import of {name}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        given = {k.arg: k.value.value for k in node.keywords if isinstance(k.value, ast.Constant)}
        if name in ("torch.load", "torch.jit.load") and given.get("weights_only") is not True:
            yield f"{name} without weights_only=True, line {node.lineno}"
        if name.endswith("load") and given.get("allow_pickle") is True:
            yield f"{name} with allow_pickle=True, line {node.lineno}"
        if name.endswith("read_pickle"):
            yield f"{name}, line {node.lineno}"


def test_nothing_is_unpickled() -> None:
    found = {str(p.relative_to(ROOT)): hits for p in CODE if (hits := list(unsafe(parsed(p))))}
    assert found == {}


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from joblib import load", "torch.load(f)", "torch.load(f, weights_only=False)",
     "np.load(f, allow_pickle=True)", "pd.read_pickle(f)"],
)  # fmt: skip
def test_the_search_for_unpickling_finds_it(code: str) -> None:
    assert list(unsafe(ast.parse(code)))
    assert not list(unsafe(ast.parse("torch.load(f, map_location='cpu', weights_only=True)")))


def tree_of_readme() -> list[tuple[str, str]]:
    """The tree in the README as (path, what it says); folders end in a slash."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- tree -->\s*```\w*\n(.*?)```", readme, re.DOTALL)
    assert block, "the README marks its tree with <!-- tree -->"
    found, parents = [], [""]
    for line in block[1].splitlines():
        match = re.fullmatch(r"( *)(\S+)(?:\s+(.*))?", line)
        assert match, f"not a line of a tree: {line!r}"
        depth = len(match[1]) // 2
        del parents[depth + 1 :]
        path = parents[depth] + match[2]
        found.append((path, match[3] or ""))
        if path.endswith("/"):
            parents.append(path)
    return found


def test_every_path_in_the_readme_exists_and_has_its_line() -> None:
    tree = tree_of_readme()
    assert [path for path, _ in tree if not (ROOT / path).exists()] == []
    assert [path for path, said in tree if not said] == []


def test_the_readme_names_every_room_and_every_top_file() -> None:
    named = {path for path, _ in tree_of_readme()}
    rooms = {f"src/secateur/{room}/" for room in ROOMS}
    files = {f"src/secateur/{p.name}" for p in PACKAGE.glob("*.py")}
    assert (rooms | files) - named == set()


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name} points to {target}"


def test_the_tree_of_errors_is_the_one_drawn() -> None:
    drawn: dict[str, tuple[str, int | None]] = {}
    parents = ["Exception"]
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"(?: {4})?((?:[│├└─ ]{4})*)(\w+) .*?(?:\(exit (\d)\))?", line)
        if match and match[2] != "The":
            depth = len(match[1]) // 4
            del parents[depth + 1 :]
            drawn[match[2]] = (parents[depth], int(match[3]) if match[3] else None)
            parents.append(match[2])
    classes = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, Exception)}
    assert {name: parent for name, (parent, _) in drawn.items()} == {
        name: cls.__base__.__name__ for name, cls in classes.items() if cls.__base__
    }
    for name, (_, status) in drawn.items():
        assert status is None or classes[name].exit_status == status


def test_every_extra_that_a_message_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        node.args[1].value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in ("MissingExtra", "require")
        if len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
    }
    assert named - set(extras) == set()


def test_rooms_import_rooms_and_not_their_files() -> None:
    """A room's ``__init__`` is its interface; only the room itself looks behind it."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).parts[0]
        for name in imported(parsed(path)):
            parts = name.split(".")
            behind = len(parts) > 2 and parts[0] == "secateur" and parts[1] in ROOMS and parts[1] != own
            inside = PACKAGE.joinpath(*parts[1:3])
            if behind and (inside.with_suffix(".py").is_file() or inside.is_dir()):
                found.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert found == []


def test_files_stay_small() -> None:
    lines = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in PACKAGE.rglob("*.py")}
    assert {str(p.relative_to(PACKAGE)): n for p, n in lines.items() if n > 400} == {}


def test_public_names_are_there() -> None:
    import secateur

    exported = set(secateur.__all__)
    assert PUBLIC - exported == set()
    assert [name for name in exported if not hasattr(secateur, name)] == []


def test_importing_secateur_imports_nothing_heavy() -> None:
    heavy = (
        "onnx",
        "onnxruntime",
        "onnxscript",
        "openvino",
        "nncf",
        "sklearn",
        "rich",
        "typer",
        "jinja2",
        "scipy",
        "yaml",
        "timm",
    )
    code = (
        "import sys, torch; before = set(sys.modules); import secateur; "
        f"print([m for m in {heavy!r} if m in set(sys.modules) - before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
