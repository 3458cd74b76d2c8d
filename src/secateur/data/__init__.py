"""Data: what is trained on, what is chosen on, what is recorded.

From the user's ``(train_loader, eval_loader)`` comes one frozen :class:`Data` record. A seeded part of the
training data is held out, and everything that is chosen (a best state, a ratio, a dtype) is chosen on it;
the evaluation data only record. Loaders are rebuilt so that their order depends on a seed and an epoch
number alone, which is what makes a run repeatable and resumable without storing generator states.
:func:`evaluate` turns a model and a loader into an :class:`Evaluation`; two evaluations on the same samples
are compared in pairs, over all samples or class by class.
"""

from secateur.data.check import check_data, check_targets
from secateur.data.compare import (
    ClassAccuracy,
    ClassDelta,
    Difference,
    class_deltas,
    metric_difference,
    per_class,
)
from secateur.data.evaluation import (
    Evaluation,
    check_labels,
    device_of,
    evaluate,
    is_classification,
    restore_modes,
    training_modes,
)
from secateur.data.fingerprint import fingerprint
from secateur.data.loaders import batch_size, slice_batch
from secateur.data.seeding import mixed, reseed, seeded
from secateur.data.split import Data, split_data

__all__ = [
    "ClassAccuracy",
    "ClassDelta",
    "Data",
    "Difference",
    "Evaluation",
    "batch_size",
    "check_data",
    "check_labels",
    "check_targets",
    "class_deltas",
    "device_of",
    "evaluate",
    "fingerprint",
    "is_classification",
    "metric_difference",
    "mixed",
    "per_class",
    "reseed",
    "restore_modes",
    "seeded",
    "slice_batch",
    "split_data",
    "training_modes",
]
