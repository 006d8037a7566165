"""Writes the table of maximal errors against the published implementation, file by file.

PLSTM_SEQ_GOLDEN=FOLDER python tests/support/golden_table.py docs/golden.md

Runs the golden tests, which note every comparison (`golden.record`), and fails where they fail.
Without PLSTM_SEQ_GOLDEN it covers the committed files alone.
"""

import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

TESTS = Path(__file__).parents[1]
HEADER = """# Agreement with the published implementation

Every array file that the published implementation produced for ops and layers (1D, 2D, graphs),
blocks, language and vision models, and the largest difference of ours from it in float64, relative
to the largest value of the array: of the outputs and returned states, and of the gradients with
respect to all inputs and parameters. "Option" names the published behaviour that is not our
default.

Written by `PLSTM_SEQ_GOLDEN=FOLDER python tests/support/golden_table.py docs/golden.md` with jax
{jax} and flax {flax} on a CPU; {count} files.

| file | option | output | gradients |
| --- | --- | --- | --- |
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-k",
            "golden",
            "--ignore",
            str(TESTS / "tasks"),
            str(TESTS),
        ]
        environment = {**os.environ, "PLSTM_SEQ_GOLDEN_RECORDS": str(records)}
        subprocess.run(command, cwd=TESTS.parent, env=environment, check=True)
        rows = [json.loads(line) for line in records.read_text().splitlines()]
    table = {(row["file"], row["option"]): row["errors"] for row in rows}
    lines = []
    for (file, option), errors in sorted(table.items()):
        gradients = [e for name, e in errors.items() if name.startswith("gradient")]
        outputs = [e for name, e in errors.items() if not name.startswith("gradient")]
        cells = (f"{max(group):.0e}" if group else "" for group in (outputs, gradients))
        lines.append(f"| `{file}` | {option} | {' | '.join(cells)} |")
    versions = {name: version(name) for name in ("jax", "flax")}
    header = HEADER.format(count=len({file for file, _ in table}), **versions)
    Path(sys.argv[1]).write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
