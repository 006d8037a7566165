"""A small data set in the format of TUDataset."""

from pathlib import Path

import numpy as np


def write_tu(folder: Path, graphs: int = 24, seed: int = 0) -> Path:
    """Paths of nodes with one edge more; the class says whether that closes a triangle.

    Attributes of a graph: the per cent of nodes with the first symbol above 300, and their number.
    """
    random = np.random.default_rng(seed)
    edges, indicator, labels, symbols, attributes = [], [], [], [], []
    for graph in range(graphs):
        nodes, first = int(random.integers(5, 8)), len(indicator) + 1
        extra = (0, 2 + graph % 2)
        for pair in [*((node, node + 1) for node in range(nodes - 1)), extra]:
            one, other = (first + node for node in pair)
            edges += [f"{one}, {other}", f"{other}, {one}"]
        indicator += [graph + 1] * nodes
        labels.append(1 - graph % 2)
        own = random.integers(0, 3, nodes)
        symbols += list(own)
        attributes.append(f"{300 + 100 * (own == 0).mean():.6g}, {(own == 0).sum()}")
    files = {
        "A": edges,
        "graph_indicator": indicator,
        "graph_labels": labels,
        "graph_attributes": attributes,
        "node_labels": symbols,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind, lines in files.items():
        (folder / f"TRI_{kind}.txt").write_text("".join(f"{line}\n" for line in lines))
    return folder
