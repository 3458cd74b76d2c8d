"""Score: a saliency for every unit. One criterion a file; to add one, subclass :class:`Criterion`."""

from secateur.scoring.activation import APoZ, MeanActivation
from secateur.scoring.batchnorm import BatchNormScale
from secateur.scoring.blocks import score_blocks
from secateur.scoring.cells import Block, where
from secateur.scoring.fisher import Fisher
from secateur.scoring.fpgm import FPGM
from secateur.scoring.lamp import LAMP
from secateur.scoring.magnitude import Magnitude
from secateur.scoring.obs import OBS
from secateur.scoring.random import Random
from secateur.scoring.record import Criterion, Run, Scores, gather, score, sum_slices
from secateur.scoring.store import load_scores, save_scores
from secateur.scoring.taylor import Taylor

__all__ = [
    "FPGM",
    "LAMP",
    "OBS",
    "APoZ",
    "BatchNormScale",
    "Block",
    "Criterion",
    "Fisher",
    "Magnitude",
    "MeanActivation",
    "Random",
    "Run",
    "Scores",
    "Taylor",
    "gather",
    "load_scores",
    "save_scores",
    "score",
    "score_blocks",
    "sum_slices",
    "where",
]  # fmt: skip
