"""Every pass and gradient of the layers against dense float64 arithmetic: `efcn verify`."""

from __future__ import annotations

from efcn_kernels.verify.run import Finding, Report, verify

__all__ = ["Finding", "Report", "verify"]
