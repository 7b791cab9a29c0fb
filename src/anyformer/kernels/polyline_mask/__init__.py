"""Masks that decay along L-shaped paths of a grid, and their product with values.

`plain` is the definition, a matrix of all pairs of places; `separable` gives the product without that matrix.
"""

from anyformer.kernels.polyline_mask.plain import Corner, line_log_mask, polyline_log_mask, polyline_product_plain
from anyformer.kernels.polyline_mask.separable import polyline_product

__all__ = ["Corner", "line_log_mask", "polyline_log_mask", "polyline_product", "polyline_product_plain"]
