"""The report of a study: one page that is read from top to bottom, figures, numbers."""

from .page import write_report

__all__ = ["write_report"]
