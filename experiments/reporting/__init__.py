"""Reports: a sweep as one HTML page that needs nothing but a browser.

path = report("sweeps/jt")
"""

from experiments.reporting.report import report

__all__ = ["report"]
