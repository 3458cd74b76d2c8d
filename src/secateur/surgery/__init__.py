"""Cut: a :class:`~secateur.planning.Plan` becomes a smaller model, verified; saved and loaded as data."""

from secateur.surgery.checkpoint import Checkpoint, open_checkpoint
from secateur.surgery.compare import relative_error
from secateur.surgery.cut import Cut, cut, cut_groups
from secateur.surgery.emit import Emitted, emit
from secateur.surgery.owner import lasting_ties
from secateur.surgery.prepare import Prepared, prepare
from secateur.surgery.prune import Pruned, prune
from secateur.surgery.rescale import Folds, Rescale, Scaled, fold, scale_writers
from secateur.surgery.rewrites import REWRITES, Call, Rewrite
from secateur.surgery.shards import CutShards, cut_shards
from secateur.surgery.sizes import Sizes
from secateur.surgery.store import load, save
from secateur.surgery.verify import Verification, verify

__all__ = [
    "REWRITES", "Call", "Checkpoint", "Cut", "CutShards", "Emitted", "Folds", "Prepared", "Pruned", "Rescale",
    "Rewrite", "Scaled", "Sizes", "Verification", "cut", "cut_groups", "cut_shards", "emit", "fold", "lasting_ties",
    "load", "open_checkpoint", "prepare", "prune", "relative_error", "save", "scale_writers", "verify",
]  # fmt: skip
