"""Data sets in the format of TUDataset, which the tests write."""

import numpy as np
import pytest
from fuzz import refusals

from tasks.graphs import read_tu
from tasks.graphs.base import node_depths

# A triangle, a path of two nodes and a node alone; nodes from 1 on.
FILES = {
    "A": "1, 2\n2, 1\n2, 3\n3, 2\n3, 1\n1, 3\n5, 4\n4, 5\n",
    "graph_indicator": "1\n1\n1\n2\n2\n3\n",
    "graph_labels": "1\n-1\n1\n",
    "node_labels": "0\n3\n3\n0\n3\n0\n",
    "node_attributes": "0.5, 1\n1.5, 2\n2.5, 3\n3.5, 4\n4.5, 5\n5.5, 6e-1\n",
    "edge_labels": "1\n1\n2\n2\n1\n1\n4\n4\n",
    "edge_attributes": "10\n11\n12\n13\n14\n15\n16\n17\n",
}


def write(root, **changed):
    for kind, text in {**FILES, **changed}.items():
        if text is not None:
            (root / f"TINY_{kind}.txt").write_text(text)
    return root


def test_what_is_read(tmp_path):
    (tmp_path / "README.txt").write_text("of the data set")
    data = read_tu(write(tmp_path))
    assert (data.name, data.labels, len(data)) == ("TINY", ("-1", "1"), 3)
    assert data.chance == pytest.approx(2 / 3)
    assert data.graph.tolist() == [0, 0, 0, 1, 1, 2]
    assert data.edge_index.tolist() == [[0, 1, 1, 2, 2, 0, 4, 3], [1, 0, 2, 1, 0, 2, 3, 4]]
    assert data.graph_labels.tolist() == [1, 0, 1]
    assert data.graph_attributes is None
    assert data.node_labels.tolist() == [[0], [3], [3], [0], [3], [0]]
    assert data.edge_labels[:, 0].tolist() == [1, 1, 2, 2, 1, 1, 4, 4]
    assert data.node_attributes[5].tolist() == [5.5, np.float32(0.6)]
    assert data.edge_attributes[:, 0].tolist() == list(range(10, 18))
    assert data.node_features[1].tolist() == [1.5, 2, 0, 1]
    assert data.edge_features[6].tolist() == [16, 0, 0, 1]


def test_a_batch_is_a_dag_with_features(tmp_path):
    data = read_tu(write(tmp_path))
    batch = data.batch([1, 0])
    assert batch.graph.tolist() == [0, 0, 1, 1, 1]
    assert batch.edge_index.tolist() == [[0, 2, 2, 3], [1, 3, 4, 4]]
    # Of the pair 4, 5 the file names 5, 4 first; of 1, 3 it names 3, 1 first.
    assert batch.edges[:, 0].tolist() == [16, 10, 14, 12]
    assert batch.nodes[:, 0].tolist() == [3.5, 4.5, 0.5, 1.5, 2.5]
    assert batch.targets.tolist() == [0, 1]
    assert batch.mask.tolist() == [True, True]
    assert batch.nodes.dtype == batch.edges.dtype == np.float32
    assert batch.edge_index.dtype == batch.graph.dtype == batch.targets.dtype == np.int32
    alone = data.batch(np.array([2]))
    assert alone.edge_index.shape == (2, 0)
    assert alone.edges.shape == (0, 4)


def test_files_that_may_be_missing(tmp_path):
    optional = dict.fromkeys(list(FILES)[3:])
    data = read_tu(write(tmp_path, **optional, graph_labels=None, graph_attributes="1\n2\n3"))
    assert data.node_features.tolist() == [[1]] * 6
    assert data.edge_features is None
    assert data.labels == ()
    assert data.graph_attributes.tolist() == [[1], [2], [3]]
    with pytest.raises(ValueError, match="the graphs of TINY have no class"):
        data.batch([0])
    assert data.batch([2, 0], data.graph_attributes).targets.tolist() == [[3], [1]]
    with pytest.raises(ValueError, match="targets: got 2, expected one for each of 3 graphs"):
        data.batch([0], data.graph_attributes[1:])


def test_loops_and_sets_without_edges(tmp_path):
    plain = dict.fromkeys(["edge_labels", "edge_attributes"])
    data = read_tu(write(tmp_path, **plain, A="2, 2\n3,1\n1,3\n1,3\n\n"))
    assert data.batch([0]).edge_index.tolist() == [[0], [2]]
    (tmp_path / "TINY_A.txt").write_text("")
    assert read_tu(tmp_path).batch([0, 1, 2]).edge_index.shape == (2, 0)


def test_random_graphs_come_back(tmp_path):
    random, sizes = np.random.default_rng(0), [3, 1, 7, 4, 9]
    starts = np.cumsum([0, *sizes])
    ends = [
        start + random.integers(0, size, (2 * size, 2))
        for start, size in zip(starts, sizes, strict=False)
    ]
    edges = random.permutation(np.concatenate(ends)).tolist()
    lines = "".join(f"{a + 1}, {b + 1}\n" for a, b in edges)
    indicator = "".join(f"{number + 1}\n" * size for number, size in enumerate(sizes))
    plain = dict.fromkeys(list(FILES)[3:])
    data = read_tu(
        write(tmp_path, **plain, A=lines, graph_indicator=indicator, graph_labels="0\n" * 5)
    )
    for graphs in ([0, 1, 2, 3, 4], [4, 2], [2, 2]):
        batch = data.batch(graphs)
        node_depths(batch.edge_index, len(batch.graph))  # no cycle
        found = [set() for _ in graphs]
        offsets = np.cumsum([0] + [sizes[graph] for graph in graphs])
        for a, b in batch.edge_index.T:
            number = batch.graph[a]
            found[number].add((a - offsets[number], b - offsets[number]))
        for pairs, graph in zip(found, graphs, strict=True):
            within = ends[graph] - starts[graph]
            assert pairs == {(min(p), max(p)) for p in within.tolist() if p[0] != p[1]}


def test_batches_go_once_through_the_graphs(tmp_path):
    data = read_tu(write(tmp_path))
    in_order = list(data.batches([2, 0, 1], 2))
    assert [batch.targets.tolist() for batch in in_order] == [[1, 1], [0]]
    orders = set()
    for epoch in range(20):
        sizes = [len(part.nodes) for part in data.batches([0, 1, 2], 1, seed=(4, epoch))]
        again = [len(part.nodes) for part in data.batches([0, 1, 2], 1, seed=(4, epoch))]
        assert sizes == again
        assert sorted(sizes) == [1, 2, 3]
        orders.add(tuple(sizes))
    assert len(orders) > 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"A": "1, 2\n2 1\n"}, r"A.txt:2: got '2 1', expected 2 numbers separated by commas"),
        ({"A": "1, 2\n2, x\n"}, r"A.txt:2: got '2, x', expected 2 numbers"),
        ({"A": "1, 2\n\n2, 1\n"}, r"A.txt:2: got '', expected 2 numbers"),
        ({"A": "1, 2, 3\n"}, r"A.txt:1: got '1, 2, 3', expected 2 numbers"),
        ({"A": "1, 2\n1, 1.5\n"}, r"A.txt:2: got 1, 1.5, expected integers"),
        ({"A": "1, 2\n1, 7\n"}, r"A.txt:2: got 1, 7, expected nodes 1 .. 6"),
        ({"A": "0, 1\n"}, r"A.txt:1: got 0, 1, expected nodes 1 .. 6"),
        ({"A": "1, 2\n3, 4\n"}, r"A.txt:2: got 3, 4, expected an edge between nodes of one graph"),
        ({"graph_indicator": ""}, r"indicator.txt:1: expected a line for each node"),
        ({"graph_indicator": "1\n1\n3\n"}, r"indicator.txt:3: got .*, expected nodes in the order"),
        ({"graph_indicator": "2\n2\n3\n"}, r"indicator.txt:1: got .*, expected nodes in the order"),
        (
            {"graph_indicator": "1\n2\n1\n"},
            r"indicator.txt:3: got 1, expected nodes .* none without",
        ),
        ({"graph_labels": "1\n0\n"}, r"graph_labels.txt:3: .* expected one for each of 3 graphs"),
        ({"graph_labels": "1\n0\n1\n0\n"}, r"graph_labels.txt:4: got 4 lines, .* 3 graphs"),
        ({"graph_labels": "1\n0.5\n1\n"}, r"graph_labels.txt:2: got 0.5, expected integers"),
        ({"graph_attributes": "1\n2\n"}, r"graph_attributes.txt:3: got 2 lines, .* 3 graphs"),
        (
            {"graph_attributes": "1, 2\n3\n4, 5\n"},
            r"graph_attributes.txt:2: got .*, expected 2 numbers",
        ),
        ({"graph_attributes": "1\n2\nx\n"}, r"graph_attributes.txt:3: got 'x', expected a number"),
        ({"graph_attributes": "1\n-1e39\n2"}, r"graph_attributes.txt:2: got -1e\+39, .* 3.4e\+38"),
        ({"node_labels": "0\n1\n"}, r"node_labels.txt:3: .* expected one for each of 6 nodes"),
        (
            {"node_attributes": "1\nnan\n" * 3},
            r"node_attributes.txt:2: got 'nan', expected a number",
        ),
        ({"node_labels": "0\n1_0\n" * 3}, r"node_labels.txt:2: got '1_0', expected a number"),
        ({"node_labels": "0\n0x1F\n" * 3}, r"node_labels.txt:2: got '0x1F', expected a number"),
        ({"node_labels": "0\n\u0663\n" * 3}, r"node_labels.txt:2: got '\u0663', expected a number"),
        (
            {"node_labels": "0\n" + "x" * 10**6},
            r"node_labels.txt:2: got 'x{100}\.\.\.', expected a number$",
        ),
        ({"edge_labels": "1\n2, 3\n" * 4}, r"edge_labels.txt:2: got '2, 3', expected a number"),
        ({"edge_attributes": "1\n"}, r"edge_attributes.txt:2: got 1 lines, .* 8 edges"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_malformed_files_are_refused_with_file_and_line(tmp_path, changed, message):
    with pytest.raises(ValueError, match=message):
        read_tu(write(tmp_path, **changed))


@pytest.mark.parametrize("hidden", ["._TINY_A.txt", ".TINY_A.txt"])
def test_hidden_files_are_passed_by(tmp_path, hidden):
    (tmp_path / hidden).write_bytes(b"\0\xff")
    assert read_tu(write(tmp_path)).name == "TINY"


def test_labels_of_too_many_kinds_are_refused_before_they_take_memory(tmp_path):
    nodes = 40_000
    lines = "\n".join(map(str, range(nodes)))
    data = read_tu(
        write(
            tmp_path,
            A="1, 2",
            graph_indicator="1\n" * nodes,
            graph_labels="1\n",
            node_labels=lines,
            node_attributes=None,
            edge_labels=None,
            edge_attributes=None,
        )
    )
    with pytest.raises(
        ValueError, match="node labels: got 40000 of 40000 kinds, which take 1600000000 zeros"
    ):
        _ = data.node_features


def test_any_damage_is_an_error_that_names_the_file_and_short(tmp_path):
    draws = np.random.default_rng(0)

    def damaged():
        for number in range(400):
            kind = list(FILES)[number % len(FILES)]
            text = np.frombuffer(FILES[kind].encode(), np.uint8).copy()
            places = draws.integers(0, len(text), draws.integers(1, 3))
            strange = np.frombuffer(b"0123456789,.-+_eExX \n\r\0\xff", np.uint8)
            text[places] = draws.choice(strange)
            write(tmp_path)
            (tmp_path / f"TINY_{kind}.txt").write_bytes(text.tobytes())
            yield tmp_path

    refused = refusals(read_tu, damaged())
    assert len(refused) > 150
    assert all("TINY_" in message and len(message) < 500 for message in refused)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got 0 files NAME_A.txt .* expected one"):
        read_tu(tmp_path)
    write(tmp_path, graph_labels=None)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*TINY_graph_labels.txt"):
        read_tu(tmp_path)
    (tmp_path / "TINY_graph_indicator.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*TINY_graph_indicator.txt"):
        read_tu(tmp_path)
    write(tmp_path)
    (tmp_path / "TINY_A.txt").write_bytes(b"1, 2\n\xff")
    with pytest.raises(ValueError, match=r"TINY_A.txt can't be read"):
        read_tu(tmp_path)


@pytest.mark.parametrize(
    ("graphs", "error", "message"),
    [
        ([], ValueError, r"graphs: got shape .*, expected \[B\]"),
        ([[0]], ValueError, r"graphs: got shape .*, expected \[B\]"),
        ([3], ValueError, "graphs: got 3 .. 3, expected 0 .. 2"),
        ([0.0], TypeError, "graphs: got float64, expected integers"),
    ],
    ids=str,
)
def test_mistakes_are_explained(tmp_path, graphs, error, message):
    with pytest.raises(error, match=message):
        read_tu(write(tmp_path)).batch(graphs)
