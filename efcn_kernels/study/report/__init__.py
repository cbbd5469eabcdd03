"""The report of a study: one page that is read from top to bottom, figures, numbers; and what of a study is worth keeping for good."""

from __future__ import annotations

from efcn_kernels.study.report.page import write_report
from efcn_kernels.study.report.publish import publish_study

__all__ = ["publish_study", "write_report"]
