"""Tasks over graphs: every label against plain evaluation, and what every one of them promises."""

import inspect
import re
import statistics

import jax
import numpy as np
import pytest

from tasks.graphs import _TASKS, GraphTask, get_graph, graph_names
from tasks.graphs.base import node_depths
from tasks.groups import group

TASKS = [
    ("dag_boolean", {}),
    ("dag_boolean", {"operators": ["xor", "not", "or", "and"], "max_operands": 4}),
    ("dag_boolean", {"operators": ["not"], "labels_at": "output"}),
    ("dag_listops", {}),
    ("dag_listops", {"max_operands": 5, "labels_at": "graph"}),
    ("dag_automaton", {}),
    ("dag_automaton", {"kind": "random", "states": 3, "labels_at": "output"}),
    ("dag_word_problem", {}),
    ("dag_word_problem", {"group": "D4", "max_inputs": 3, "labels_at": "output"}),
    ("dag_longest_path_parity", {}),
    ("dag_longest_path_parity", {"labels_at": "graph", "max_inputs": 3}),
]
tasks = pytest.mark.parametrize(
    ("name", "options"),
    TASKS,
    ids=[name + "".join(f"-{k}={v}" for k, v in options.items()) for name, options in TASKS],
)


def inputs_of(batch):
    """The inputs of each node, as lists."""
    below = [[] for _ in batch.nodes]
    for tail, head in batch.edge_index.T.tolist():
        below[head].append(tail)
    return below


def value(task, word, operands):
    """What an operator makes of its operands' symbols and values."""
    if task.name == "dag_automaton":
        sides = {word.split(":")[0]: found for word, found in operands}
        return task.table[int(word.split(":f")[1]), sides["left"], sides["right"]]
    found = [found for _, found in operands]
    plain = {
        "not": lambda: 1 - found[0],
        "and": lambda: int(all(found)),
        "or": lambda: int(any(found)),
        "xor": lambda: sum(found) % 2,
        "min": lambda: min(found),
        "max": lambda: max(found),
        "med": lambda: int(statistics.median(found)),
        "sum": lambda: sum(found) % 10,
    }
    return plain[word]()


def by_hand(task, batch):
    """The label of every node, by walking down to the leaves."""
    below, labels = inputs_of(batch), {}

    def label(node):
        if node in labels:
            return labels[node]
        word = task.vocabulary[batch.nodes[node]]
        if task.name == "dag_longest_path_parity":
            return longest(node) % 2
        if task.name == "dag_word_problem":
            found = task.labels.index(word.split(":")[-1])
            takes = re.match(r"\w+<(\w+)", word)
            for tail in below[node]:
                theirs = task.vocabulary[batch.nodes[tail]]
                if takes is None or theirs.startswith(takes[1] + "<"):
                    found = group(task.group).table[label(tail), found]
        elif not below[node]:
            found = int(word.split(":")[-1])
        else:
            words = [task.vocabulary[batch.nodes[tail]] for tail in below[node]]
            found = value(
                task, word, list(zip(words, [label(tail) for tail in below[node]], strict=True))
            )
        labels[node] = found
        return found

    def longest(node):
        return max((1 + longest(tail) for tail in below[node]), default=0)

    return np.array([label(node) for node in range(len(batch.nodes))])


@tasks
@pytest.mark.parametrize("size", [2, 9])
def test_labels_are_those_of_plain_evaluation(name, options, size):
    task = get_graph(name, **options)
    batch = task.draw(1, 5, size)
    edge_index, nodes, graph, targets, mask, edges = batch
    assert edges is None
    assert nodes.dtype == graph.dtype == edge_index.dtype == targets.dtype == np.int32
    assert mask.dtype == bool
    assert mask.shape == targets.shape == ((len(nodes),) if task.per_node else (5,))
    expected, leaving = by_hand(task, batch), np.bincount(edge_index[0], minlength=len(nodes))
    if task.per_node:
        np.testing.assert_array_equal(targets, expected)
        entering = np.bincount(edge_index[1], minlength=len(nodes))
        scored = entering > 0 if task.labels_at == "every" else leaving == 0
        np.testing.assert_array_equal(mask, scored)
    elif task.axis == "depth":
        np.testing.assert_array_equal(targets, expected[leaving == 0])
    else:
        depths = node_depths(edge_index, len(nodes))
        longest = [depths[graph == number].max() % 2 for number in range(5)]
        np.testing.assert_array_equal(targets, longest)
    np.testing.assert_array_equal(task.targets(edge_index, nodes, graph), targets)
    np.testing.assert_array_equal(task.scored(edge_index, nodes, graph), mask)


@tasks
def test_graphs_have_the_size_that_was_asked_for(name, options):
    task = get_graph(name, **options)
    for size in (2, 3, 17):
        edge_index, nodes, graph, _, _, _ = task.draw(3, 4, size)
        assert (np.diff(graph) >= 0).all()
        assert (edge_index[0] < edge_index[1]).all()
        assert (graph[edge_index[0]] == graph[edge_index[1]]).all()
        depths = node_depths(edge_index, len(nodes))
        for number in range(4):
            found = depths[graph == number].max() if task.axis == "depth" else sum(graph == number)
            assert found == size
        if task.axis == "depth":
            # A tree a graph: every node but the last has one parent.
            leaving = np.bincount(edge_index[0], minlength=len(nodes))
            np.testing.assert_array_equal(leaving, np.append(np.diff(graph) == 0, False))


@tasks
def test_labels_do_not_depend_on_the_order_of_nodes_and_edges(name, options):
    task = get_graph(name, **options)
    batch, random = task.draw(4, 3, 6), np.random.default_rng(0)
    nodes = np.concatenate([random.permutation(np.flatnonzero(batch.graph == g)) for g in range(3)])
    edges = random.permutation(batch.edge_index.shape[1])
    place = np.argsort(nodes)
    found = task.targets(place[batch.edge_index[:, edges]], batch.nodes[nodes], batch.graph[nodes])
    np.testing.assert_array_equal(found, batch.targets[nodes] if task.per_node else batch.targets)


@tasks
def test_a_batch_is_a_function_of_its_seed(name, options):
    task = get_graph(name, **options)
    key = jax.random.key(3)
    for seed in (7, (7, 2), key):
        first, again = task.draw(seed, 4, 5), task.draw(seed, 4, 5)
        for a, b in zip(first[:5], again[:5], strict=True):
            np.testing.assert_array_equal(a, b)
    first, other = task.draw(np.random.default_rng(7), 4, 5), task.draw(7, 4, 5)
    np.testing.assert_array_equal(first.edge_index, other.edge_index)
    drawn = [task.draw(seed, 8, 9) for seed in (key, jax.random.key(4))]
    assert len({batch.edge_index.tobytes() + batch.nodes.tobytes() for batch in drawn}) == 2


@tasks
def test_chance_is_the_share_of_the_most_frequent_label(name, options):
    task = get_graph(name, **options)
    size = 32 if task.axis == "depth" else 64
    batches = [task.draw((8, part), 256, size) for part in range(4)]
    shares = np.array(
        [
            np.bincount(batch.targets[batch.mask], minlength=len(task.labels)) / batch.mask.sum()
            for batch in batches
        ]
    )
    found, error = shares.mean(axis=0), shares.std(axis=0, ddof=1).max() / 2
    if task.axis == "depth":
        np.testing.assert_allclose(found, task.label_frequencies(size), atol=0.005 + 4 * error)
    assert found.max() == pytest.approx(task.chance, abs=0.02 + 4 * error)


@pytest.mark.parametrize("name", ["dag_boolean", "dag_listops", "dag_automaton"])
def test_worked_example_of_a_tree(name):
    task = get_graph(name)
    text = inspect.getdoc(_TASKS[name])
    formula, label = re.search(r"^ +formula +(.+)\n +label +(.+)$", text, re.MULTILINE).groups()
    tree = task.encode(formula)
    assert task.labels[task.targets(*tree)[-1]] == label
    assert task.decode(*tree) == [formula]


@pytest.mark.parametrize(
    ("name", "options"),
    [("dag_word_problem", {"max_inputs": 2}), ("dag_longest_path_parity", {})],
    ids=["word_problem", "longest_path"],
)
def test_worked_example_of_a_graph(name, options):
    task = get_graph(name, **options)
    text = inspect.getdoc(_TASKS[name])
    nodes, label = re.search(r"^ +nodes +(.+)\n +label +(.+)$", text, re.MULTILINE).groups()
    words = [word.strip() for word in nodes.split(" / ")]
    edges = [
        (int(tail), head)
        for head, word in enumerate(words)
        for tail in word.partition("<- ")[2].split()
    ]
    symbols = [task.vocabulary.index(word.split(" ")[0]) for word in words]
    graph = np.array(edges).T, symbols, [0] * len(words)
    assert [task.labels[label] for label in task.targets(*graph)] == label.split()
    assert task.decode(*graph) == [nodes]


def test_trees_are_written_and_read():
    for name in ("dag_boolean", "dag_listops", "dag_automaton"):
        task = get_graph(name)
        batch = task.draw(5, 6, 4)
        texts = task.decode(*batch[:3])
        assert len(texts) == 6
        roots = np.flatnonzero(np.append(np.diff(batch.graph) > 0, True))
        for text, root in zip(texts, roots, strict=True):
            tree = task.encode(text)
            assert task.targets(*tree)[-1] == batch.targets[root]
            assert task.decode(*tree) == [text]
    task = get_graph("dag_boolean")
    assert task.decode(np.zeros((2, 0), int), [1, 0, 0], [0, 1, 1]) == ["1", "0 / 0"]
    # A circuit: what is used twice is no tree.
    circuit = [[0, 0, 1, 2], [1, 2, 3, 3]], [1, 2, 2, 3], [0] * 4
    assert task.decode(*circuit) == ["1 / not <- 0 / not <- 0 / and <- 1 2"]
    assert task.targets(*circuit).tolist() == [1, 0, 0, 0]


def test_permutations_forget_nothing():
    task = get_graph("dag_automaton", states=5, operators=2, seed=3)
    for table in task.table:
        assert (np.sort(table, axis=0) == np.arange(5)[:, None]).all()
        assert (np.sort(table, axis=1) == np.arange(5)).all()


def test_and_and_or_pass_a_change_on_to_half_of_their_values():
    # What the docstring says of depth: with the defaults three quarters of all operators do.
    task, passed = get_graph("dag_boolean"), []
    for operator in ("not", "and", "or", "xor"):
        others = ("",) if operator == "not" else (", 0", ", 1")
        for other in others:
            one, two = (task.encode(f"{operator}({bit}{other})") for bit in (0, 1))
            changed = task.targets(*one)[-1] != task.targets(*two)[-1]
            passed.append(changed / len(others))
    assert sum(passed) / 4 == 3 / 4


def test_branching_says_how_large_trees_are():
    task = get_graph("dag_boolean", branching=0.0)
    nodes = len(task.draw(0, 256, 16).nodes) / 256
    assert nodes == pytest.approx(1 + 16 * 1.75, rel=0.05)
    sizes = [len(get_graph("dag_boolean").draw(0, 256, depth).nodes) for depth in (32, 64)]
    assert sizes[1] / sizes[0] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("name", graph_names())
def test_what_is_registered_keeps_the_promises(name):
    task = get_graph(name)
    assert isinstance(task, GraphTask)
    assert task.axis in ("depth", "size")
    assert task == get_graph(task.name)
    assert hash(task) == hash(get_graph(name))
    for part in ("*Rule.*", "*Alphabet.*", "*Example.*", "*Chance.*", "*Source.*"):
        assert part in inspect.getdoc(_TASKS[name])


def given(name, edges, nodes, graph=None, **options):
    edge_index = np.array(edges).reshape(-1, 2).T
    return get_graph(name, **options).targets(edge_index, nodes, graph or [0] * len(nodes))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: get_graph("dag_bool"), ValueError, "unknown task 'dag_bool'; nearest: dag_bool"),
        (lambda: get_graph("dag_boolean", group="S3"), ValueError, "no option 'group'"),
        (
            lambda: get_graph("dag_boolean", labels_at="last"),
            ValueError,
            r"labels_at: got .*, expected one",
        ),
        (
            lambda: get_graph("dag_boolean", branching=1.0),
            ValueError,
            r"branching: got 1.0, expected in",
        ),
        (
            lambda: get_graph("dag_boolean", operators=["nand"]),
            ValueError,
            r"operators: got .*, expected dif",
        ),
        (lambda: get_graph("dag_boolean", operators=["and"]), ValueError, "both 'and' and 'or'"),
        (lambda: get_graph("dag_boolean", max_operands=9), ValueError, "got 9, expected at most 8"),
        (lambda: get_graph("dag_listops", max_operands=6), ValueError, "got 6, expected at most 5"),
        (
            lambda: get_graph("dag_listops", max_operands=2.0),
            TypeError,
            "got 2.0, expected an integer",
        ),
        (
            lambda: get_graph("dag_automaton", kind="reset"),
            ValueError,
            r"kind: got .*, expected one of",
        ),
        (
            lambda: get_graph("dag_automaton", states=1),
            ValueError,
            r"states: got .*, expected at least 2",
        ),
        (
            lambda: get_graph("dag_automaton", states=65),
            ValueError,
            r"states: got .*, expected at most 64",
        ),
        (
            lambda: get_graph("dag_word_problem", group="X3"),
            ValueError,
            "group: got 'X3', expected Z5",
        ),
        (
            lambda: get_graph("dag_word_problem", max_inputs=5),
            ValueError,
            "got 5, expected at most window=4",
        ),
        (
            lambda: get_graph("dag_word_problem", labels_at="graph"),
            ValueError,
            "labels_at: got 'graph', expected",
        ),
        (
            lambda: get_graph("dag_word_problem").draw(0, 1, 1),
            ValueError,
            r"size: got .*, expected at least 2",
        ),
        (
            lambda: get_graph("dag_boolean").draw(0, 0, 1),
            ValueError,
            r"batch: got .*, expected at least 1",
        ),
        (
            lambda: get_graph("dag_boolean").draw(0, 1, 0),
            ValueError,
            r"depth: got .*, expected at least 1",
        ),
        (
            lambda: given("dag_boolean", [(0, 1)], [0, 4]),
            ValueError,
            "got 1 inputs of node 1, 'or', expected",
        ),
        (
            lambda: given("dag_boolean", [(0, 1)], [0, 1]),
            ValueError,
            "got 1 inputs of node 1, '1', expected",
        ),
        (
            lambda: given("dag_boolean", [(0, 1), (1, 0)], [2, 2]),
            ValueError,
            "edge_index: got a cycle",
        ),
        (
            lambda: given("dag_boolean", [(0, 2)], [0, 2]),
            ValueError,
            r"edge_index: got .*, expected 0 ..",
        ),
        (
            lambda: given("dag_boolean", [(0, 1)], [0, 9]),
            ValueError,
            r"nodes: got .*, expected 0 .. 5",
        ),
        (lambda: given("dag_boolean", [(0, 1)], [0, 2], [0, 1]), ValueError, "between two graphs"),
        (
            lambda: given("dag_boolean", [], [0, 1], [0, 2]),
            ValueError,
            r"graph: got .*, expected numbers that ascend from 0",
        ),
        (
            lambda: given("dag_boolean", [], [0.5]),
            TypeError,
            "nodes: got float64, expected integers",
        ),
        (
            lambda: given("dag_boolean", [], []),
            ValueError,
            r"nodes, graph: got .*, expected one shape",
        ),
        (
            lambda: get_graph("dag_boolean").targets([0, 1], [0, 2], [0, 0]),
            ValueError,
            r"edge_index: got shape \(2,\), expected \[2, E\]",
        ),
        (
            lambda: given("dag_boolean", [], [0, 1], labels_at="graph"),
            ValueError,
            "got 2 nodes that no edge leaves in graph 0,",
        ),
        (
            lambda: given("dag_automaton", [(0, 2), (1, 2)], [0, 1, 4]),
            ValueError,
            "two inputs of one side of node 2,",
        ),
        (
            lambda: given("dag_word_problem", [(0, 2), (1, 2)], [0, 1, 4]),
            ValueError,
            "got several inputs of node 2, expected one",
        ),
        (
            lambda: get_graph("dag_boolean").encode("nor(1)"),
            ValueError,
            "text: got symbol 'nor', expected one of",
        ),
        (
            lambda: get_graph("dag_boolean").encode("not(1))"),
            ValueError,
            "an opening bracket for each",
        ),
        (lambda: get_graph("dag_boolean").encode("not(1"), ValueError, "brackets closed"),
        (lambda: get_graph("dag_boolean").encode("1, 0"), ValueError, "expected one expression"),
    ],
)
def test_mistakes_are_explained(call, error, message):
    with pytest.raises(error, match=message):
        call()
