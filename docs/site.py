"""What the site has beside the pages of this folder; mkdocs calls these functions.

The README is its first page. Pages and notebooks that lie elsewhere in the repository keep their
paths, and the reference has a page for each package: all names that the package exports, from their
docstrings. A link to what is no page (a folder of results, a source file) becomes its text and the
path in the repository.
"""

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
ELSEWHERE = [
    "CHANGELOG.md",
    "results/README.md",
    *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "notebooks").glob("*.ipynb"))),
    "notebooks/README.md",
    *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "plstm_seq").rglob("README.md"))),
]
PACKAGES = ["plstm_seq", "tasks", "experiments"]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)")


def exported(package: Path) -> list[str]:
    """The names in `__all__` of a package, which is read and not imported."""
    for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return sorted(ast.literal_eval(node.value), key=str.lower)
    return []


def reference() -> dict[str, str]:
    """The pages of the reference: path -> Markdown."""
    pages = {}
    for top in PACKAGES:
        for init in sorted((ROOT / top).rglob("__init__.py")):
            names = exported(init.parent)
            if not names:
                continue
            package = ".".join(init.parent.relative_to(ROOT).parts)
            parts = [
                f"# `{package}`",
                f"::: {package}\n    options:\n      members: []\n      show_root_heading: false\n",
            ]
            parts += [f"::: {package}.{name}" for name in names]
            pages[f"reference/{package}.md"] = "\n\n".join(parts) + "\n"
    return pages


def on_config(config: Any) -> Any:
    """Add the reference to the menu."""
    pages = [{path.removeprefix("reference/").removesuffix(".md"): path} for path in reference()]
    config.nav = [*config.nav, {"Reference": pages}]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie elsewhere."""
    for path in ELSEWHERE:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=readme))
    for path, text in reference().items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Point links at pages of the site, and say the path of what is none."""
    here = page.file.src_uri
    source = "README.md" if here == "index.md" else here
    if source not in ["README.md", *ELSEWHERE]:
        source = f"docs/{source}"

    def link(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        name, _, heading = target.partition("#")
        if not name:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
        uri = "index.md" if path == "README.md" else path.removeprefix("docs/")
        if files.get_file_from_path(uri) is None:
            if not (ROOT / path).exists():
                return match[0]  # mkdocs warns
            return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"
        relative = posixpath.relpath(uri, posixpath.dirname(here) or ".")
        return f"{picture}[{text}]({relative}{'#' * bool(heading)}{heading})"

    return LINK.sub(link, markdown)
