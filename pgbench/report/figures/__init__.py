"""Figures for papers: accuracy against memory and throughput, over resolution, and what quantization costs.

What is drawn is decided without a plotting library (cells.py and the files named as the figures); canvas.py
paints it with matplotlib, which is imported when something is painted and not before.
"""

from __future__ import annotations

from pgbench.report.figures.deltas import Span
from pgbench.report.figures.drawing import Figure, draw, save

__all__ = ["Figure", "Span", "draw", "save"]
