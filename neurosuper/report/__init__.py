"""One self-contained HTML file for a comparison."""

from neurosuper.report.html import render_report

__all__ = ["render_report"]
