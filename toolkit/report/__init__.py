"""`report.html`: one page that says what a run did; it opens without a server or a network."""

from toolkit.report.page import REPORT_FILE, render_report, write_report

__all__ = ["REPORT_FILE", "render_report", "write_report"]
