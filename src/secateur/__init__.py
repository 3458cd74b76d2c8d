"""Secateur: a trained network and a budget in, a proven smaller artifact out.

The flat public names; each is documented where it is defined. Importing this imports torch and nothing heavier:
the pipeline, with its report and its benches, comes when ``compress``, ``sweep`` or ``Latency`` is first asked for.
"""

from typing import TYPE_CHECKING, Any

from secateur.cost import Macs, Params
from secateur.coupling import Group, Groups, Lock, Operator, find_groups
from secateur.errors import (
    CorruptFile,
    DataError,
    Infeasible,
    InputError,
    MissingExtra,
    NotExportable,
    NotFinite,
    NotVerified,
    ParityError,
    PlanError,
    RecipeError,
    RequestError,
    RunFolderError,
    SecateurError,
    TaskError,
    UnknownName,
    UnsafeFile,
)
from secateur.graph import Graph, trace
from secateur.planning import Budget, Global, Plan, Rounding, Uniform, allocate
from secateur.recovery import carry_optimizer, reconstruct_
from secateur.scoring import (
    FPGM,
    LAMP,
    OBS,
    APoZ,
    BatchNormScale,
    Criterion,
    Fisher,
    Magnitude,
    MeanActivation,
    Random,
    Scores,
    Taylor,
    score,
)
from secateur.sparsity import shrink
from secateur.surgery import (
    CutShards,
    Pruned,
    Verification,
    cut,
    cut_shards,
    load,
    open_checkpoint,
    prune,
    save,
)
from secateur.task import Task, classification

if TYPE_CHECKING:
    from secateur.latency import Latency
    from secateur.pipeline import Run, Sweep, compress, sweep

__version__ = "0.1.0.dev0"

__all__ = [
    "FPGM",
    "LAMP",
    "OBS",
    "APoZ",
    "BatchNormScale",
    "Budget",
    "CorruptFile",
    "Criterion",
    "CutShards",
    "DataError",
    "Fisher",
    "Global",
    "Graph",
    "Group",
    "Groups",
    "Infeasible",
    "InputError",
    "Latency",
    "Lock",
    "Macs",
    "Magnitude",
    "MeanActivation",
    "MissingExtra",
    "NotExportable",
    "NotFinite",
    "NotVerified",
    "Operator",
    "Params",
    "ParityError",
    "Plan",
    "PlanError",
    "Pruned",
    "Random",
    "RecipeError",
    "RequestError",
    "Rounding",
    "Run",
    "RunFolderError",
    "Scores",
    "SecateurError",
    "Sweep",
    "Task",
    "TaskError",
    "Taylor",
    "Uniform",
    "UnknownName",
    "UnsafeFile",
    "Verification",
    "allocate",
    "carry_optimizer",
    "classification",
    "compress",
    "cut",
    "cut_shards",
    "find_groups",
    "load",
    "open_checkpoint",
    "prune",
    "reconstruct_",
    "save",
    "score",
    "shrink",
    "sweep",
    "trace",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in ("Run", "Sweep", "compress", "sweep"):
        from secateur import pipeline

        return getattr(pipeline, name)
    if name == "Latency":
        from secateur import latency

        return latency.Latency
    raise AttributeError(f"module 'secateur' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
