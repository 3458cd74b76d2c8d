"""What may stand in a ``.pt2`` archive, decided from its bytes alone.

``torch.export.load`` unpickles example inputs, tensor subclasses and custom objects, evaluates shape expressions as
Python, compiles guards from text, and looks operators up by attribute. :func:`checked_records` reads the archive as
data and refuses whatever would need one of these: weights and constants must be raw bytes, expressions arithmetic,
operators torch's own, example inputs plain tensors.
"""

from __future__ import annotations

import ast
import io
import json
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from secateur.errors import CorruptFile, UnsafeFile

ADVICE = "save it with plain tensors and torch's operators, or give the model as package.module:callable"

_BOOKKEEPING = re.compile(r"(byteorder|version|\.format_version|\.storage_alignment|\.data/[\w.]+)$")
_HEADER = re.compile(r"(archive_format|archive_version|extra/.*)$")
_CONFIG = re.compile(r"data/(weights|constants)/[^/]+_config\.json$")
_RAW = re.compile(r"data/(weights|constants)/(weight|tensor)_\d+$")
_MODEL = re.compile(r"models/[^/]+\.json$")
_SAMPLES = re.compile(r"data/sample_inputs/[^/]+\.pt$")
_OPERATOR = re.compile(r"torch\.ops\.(\w+\.)+\w+|_operator\.\w+|math\.\w+|torch\.(sym_\w+|_sym_\w+)")

_FUNCTIONS = frozenset(
    """Symbol Integer Float Rational Add Mul Pow Max Min Mod Abs Eq Ne Lt Le Gt Ge Equality Unequality StrictLessThan
    StrictGreaterThan LessThan GreaterThan And Or Not Piecewise floor ceiling sqrt true false FloorDiv ModularIndexing
    Where PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv
    IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat Identity
    BitwiseFn_bitwise_and BitwiseFn_bitwise_or OpaqueUnaryFn_sqrt""".split()
)
_ARITHMETIC = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare,
    ast.Load, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Tuple,
)  # fmt: skip


def checked_records(path: Path) -> tuple[dict[str, bytes], Any]:
    """The records of the archive, guards and example inputs blanked, and the example inputs ``(args, kwargs)`` or
    ``None``.

    Raises:
        UnsafeFile: something in it could run code when loaded.
        CorruptFile: it is no whole ``.pt2`` archive.
    """
    records: dict[str, bytes] = {}
    samples: Any = None
    for name, data in _raw_records(path).items():
        if _BOOKKEEPING.match(name):
            continue  # the writer adds its own
        if _SAMPLES.match(name):
            samples, data = _sample_inputs(path, data), b""
        elif _CONFIG.match(name):
            _check_payloads(path, name, _json(path, name, data))
        elif _MODEL.match(name):
            data = _checked_model(path, name, data)
        elif not (_RAW.match(name) or _HEADER.match(name)):
            raise UnsafeFile(f"{path} carries {name!r}, a pickled payload or compiled code; {ADVICE}")
        records[name] = data
    if not any(_MODEL.match(name) for name in records):
        raise CorruptFile(f"{path} holds no exported program")
    return records, samples


def _raw_records(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            raw = {name.partition("/")[2]: archive.read(name) for name in names}  # read checks the sums
    except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise CorruptFile(f"{path} is no whole .pt2 archive: {error}") from error
    if len(raw) != len(names):
        raise UnsafeFile(f"{path} holds the same record twice; {ADVICE}")
    if raw.get("archive_format") != b"pt2":
        raise CorruptFile(
            f"{path} is no .pt2 archive of torch 2.8 or later; export it again with torch.export.save"
        )
    return raw


def _json(path: Path, name: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise CorruptFile(f"{path} is damaged: {name} is no JSON: {error}") from error


def _check_payloads(path: Path, name: str, config: Any) -> None:
    try:
        for key, entry in config["config"].items():
            if entry["use_pickle"] is not False or not re.fullmatch(
                r"(weight|tensor)_\d+", entry["path_name"]
            ):
                raise UnsafeFile(f"{path} carries {key!r} as a pickled payload; {ADVICE}")
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(f"{path} is damaged: {name} has an unknown form") from error


def _checked_model(path: Path, name: str, data: bytes) -> bytes:
    program = _json(path, name, data)
    if not isinstance(program, dict):
        raise CorruptFile(f"{path} is damaged: {name} has an unknown form")
    for key, value in _strings(program):
        if key == "expr_str" and not _is_arithmetic(value):
            raise UnsafeFile(
                f"{path} carries the expression {value[:80]!r}, which is no arithmetic; {ADVICE}"
            )
        if (
            key == "target"
            and value.startswith(("torch", "_operator", "math", "#"))
            and not _OPERATOR.fullmatch(value)
        ):
            raise UnsafeFile(f"{path} calls {value[:80]!r}, which is no operator of torch; {ADVICE}")
    if "guards_code" in program:
        program["guards_code"] = []
    return json.dumps(program).encode()


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)


def _is_arithmetic(text: str) -> bool:
    """Whether an expression is built of numbers, symbols and known functions alone."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(tree):
        if not isinstance(node, _ARITHMETIC):
            return False
        if isinstance(node, ast.Call) and not (
            isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        ):
            return False
        if isinstance(node, ast.Name) and "__" in node.id:
            return False
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and not re.fullmatch(r"[A-Za-z]\w*", node.value)
        ):
            return False
    return True


def _sample_inputs(path: Path, data: bytes) -> Any:
    """``torch.export.save`` pickles them by default; tensors in plain containers are read without running code."""
    if not data:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(io.BytesIO(data), weights_only=True)
    except Exception as error:
        raise UnsafeFile(
            f"{path} carries example inputs that only unpickling could read; {ADVICE}"
        ) from error
