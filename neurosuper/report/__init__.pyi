from .html import render_report as render_report
