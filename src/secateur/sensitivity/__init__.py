"""Sensitivity: what each group costs in quality, measured without training, and saliencies in units of the loss."""

from secateur.sensitivity.calibrate import calibrated
from secateur.sensitivity.measure import Sampling, sensitivity
from secateur.sensitivity.record import Curve, Sensitivity

__all__ = ["Curve", "Sampling", "Sensitivity", "calibrated", "sensitivity"]
