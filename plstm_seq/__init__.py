"""pLSTM layers for sequences, grids and graphs with non-diagonal transitions (arXiv 2506.11997)."""

__version__ = "0.1.0"
