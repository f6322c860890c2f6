"""Runs as one HTML file: self-contained, readable on a phone, in the dark and by screen readers."""

from fedlease.report.page.page import is_report, make_page

__all__ = ["is_report", "make_page"]
