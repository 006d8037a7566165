"""What a sweep has measured: rows, summaries, tables, figures, and settings of equal cost.

frame = gather("sweeps/jt")
print(summarize(frame, by=["transition.dim"], metric="sequence", length=256))
"""

from experiments.costs import Costs, costs_of
from experiments.results.export import export, readable, to_csv
from experiments.results.summary import summarize, where
from experiments.sweeps.folder import find_sweep
from experiments.sweeps.matching import choices, matched
from experiments.sweeps.rows import gather
from experiments.tables import to_latex, to_markdown, to_text

__all__ = [
    "Costs",
    "choices",
    "costs_of",
    "export",
    "find_sweep",
    "gather",
    "matched",
    "readable",
    "summarize",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_text",
    "where",
]
