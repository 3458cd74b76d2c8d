"""Measured latency: artifacts timed in turn, each in a process of its own, with intervals.

The record is :class:`Measurement`, the verb :func:`measure`; :func:`profile` takes an artifact apart. The seam is
:class:`Device`: :class:`LocalDevice` times on this machine, :class:`FakeDevice` is a public test double whose times are
a function of the artifact. On a shared machine only figures paired with a reference measured in turn mean anything, so
every ratio is one.
"""

from __future__ import annotations

from secateur.bench.cores import default_threads, processor_name
from secateur.bench.device import Device, NodeTimes, Runner
from secateur.bench.fake import FakeDevice
from secateur.bench.intervals import Interval, bootstrap_interval, paired_ratio, quantile
from secateur.bench.local import LocalDevice
from secateur.bench.measure import Effort, measure, peak_memory
from secateur.bench.measurement import Entry, Measurement
from secateur.bench.profile import Node, Profile, profile

__all__ = [
    "Device",
    "Effort",
    "Entry",
    "FakeDevice",
    "Interval",
    "LocalDevice",
    "Measurement",
    "Node",
    "NodeTimes",
    "Profile",
    "Runner",
    "bootstrap_interval",
    "default_threads",
    "measure",
    "paired_ratio",
    "peak_memory",
    "processor_name",
    "profile",
    "quantile",
]
