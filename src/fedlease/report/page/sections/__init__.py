"""The sections of the page, a file each; see `fedlease.report.page.registry`."""
