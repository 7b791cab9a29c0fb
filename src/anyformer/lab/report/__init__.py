"""Reports: one HTML file that opens without a network."""

from __future__ import annotations

from anyformer.lab.report.page import write_report

__all__ = ["write_report"]
