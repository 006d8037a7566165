"""Prints figures of the code base: modules, lines of code, floors and the longest import chain.

python benchmarks/house.py

The figures are read from the sources. Nothing is imported except the default config, whose lines
are counted.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parents[1]
PACKAGES = ("plstm_seq", "tasks", "experiments")
_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    *(tokenize.ENCODING, tokenize.ENDMARKER),
}


def modules() -> dict[str, Path]:
    """Return the files of all modules by dotted name; an `__init__.py` has its package's name."""
    found = {}
    for path in (path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def code_lines(source: str) -> int:
    """Count the lines with a token that is neither a comment nor part of a docstring."""
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                documentation.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documentation)


def imports(tree: ast.AST, *, inner: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports outside functions, or inside with `inner`, except those for typing only."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.Import() | ast.ImportFrom():
                if not inner:
                    yield node
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                pass
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                if inner:
                    yield from (
                        x for x in ast.walk(node) if isinstance(x, ast.Import | ast.ImportFrom)
                    )
            case _:
                yield from imports(node, inner=inner)


def graph(files: dict[str, Path], *, inner: bool = False) -> "nx.DiGraph[str]":
    """Return a graph with an arrow from each module to each of our modules that it imports."""
    arrows: nx.DiGraph[str] = nx.DiGraph()
    arrows.add_nodes_from(files)
    for name, path in files.items():
        for statement in imports(_parsed(path), inner=inner):
            for target in _targets(statement):
                known = target if target in files else target.rpartition(".")[0]
                if known in files and known != name:
                    arrows.add_edge(name, known)
    return arrows


def _targets(statement: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    return [f"{statement.module}.{alias.name}" for alias in statement.names]


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def rooms(arrows: "nx.DiGraph[str]", package: str) -> "nx.DiGraph[str]":
    """Return the arrows between the direct members of a package."""
    found: nx.DiGraph[str] = nx.DiGraph()
    for source, target in arrows.edges:
        ends = [name.split(".")[1] for name in (source, target) if name.startswith(f"{package}.")]
        if len(ends) == 2 and ends[0] != ends[1]:
            found.add_edge(*ends)
    return found


def longest(arrows: "nx.DiGraph[str]") -> int:
    """Return the number of modules on the longest chain of imports; a cycle counts as one."""
    return nx.dag_longest_path_length(nx.condensation(arrows)) + 1


def circles(arrows: "nx.DiGraph[str]") -> list[list[str]]:
    """Return the groups of modules that import each other in a cycle."""
    return [sorted(part) for part in nx.strongly_connected_components(arrows) if len(part) > 1]


def main() -> None:
    """Print the figures."""
    files = modules()
    sources = [path.read_text(encoding="utf-8") for path in files.values()]
    arrows = graph(files)
    hidden = [
        edge
        for edge in graph(files, inner=True).edges
        if edge not in arrows.edges and nx.has_path(arrows, edge[1], edge[0])
    ]
    experiments = rooms(arrows, "experiments")
    lengths = sorted(source.count("\n") for source in sources)
    print(f"modules: {len(files)}, half of them below {lengths[len(lengths) // 2]} lines")
    print(f"under 50 lines: {sum(length < 50 for length in lengths)}, longest: {lengths[-1]}")
    print(f"lines of code: {sum(map(code_lines, sources)):,}")
    print(f"floors of experiments: {longest(experiments)}")
    print(f"circles between its rooms: {circles(experiments) or 'none'}")
    print(f"circles of modules: {circles(arrows) or 'none'}")
    print(f"imports inside functions that hide a circle: {len(hidden)}")
    for source, target in hidden:
        print(f"  {source} -> {target}")
    print(f"longest chain of imports: {longest(arrows)}")
    print(f"lines of config.yaml of `train parity`: {config_lines()}")


def config_lines() -> int:
    """Count the lines of the config.yaml of a default run of parity."""
    import tempfile

    from experiments import default_config
    from experiments.config_files import READABLE, store_config

    with tempfile.TemporaryDirectory() as folder:
        store_config(default_config("parity"), Path(folder))
        return len((Path(folder) / READABLE).read_text(encoding="utf-8").splitlines())


if __name__ == "__main__":
    main()
