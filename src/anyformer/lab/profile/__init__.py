"""Parameters, operations, activation memory, latency and throughput of any model, and how each grows."""

from __future__ import annotations

from anyformer.lab.profile.growth import growth_exponent
from anyformer.lab.profile.latency import Latency, measure_latency
from anyformer.lab.profile.memory import activation_memory
from anyformer.lab.profile.operations import Operations, count_operations, operations
from anyformer.lab.profile.report import figure, table, write_html
from anyformer.lab.profile.shapes import shapes_only
from anyformer.lab.profile.sweep import QUANTITIES, Point, Profile, profile

__all__ = [
    "QUANTITIES",
    "Latency",
    "Operations",
    "Point",
    "Profile",
    "activation_memory",
    "count_operations",
    "figure",
    "growth_exponent",
    "measure_latency",
    "operations",
    "profile",
    "shapes_only",
    "table",
    "write_html",
]
