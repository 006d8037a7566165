"""Measures on fresh seeds what `plstm-seq train TASK` learns, and up to which length it holds.

python benchmarks/defaults.py                         all cases, seeds 100 to 104
python benchmarks/defaults.py parity --seeds 100      one case and one seed

The script trains as the command does without options, in runs/default_CASE_SEED. It does not train
a finished run again, and continues a stopped one. It adds rows to results/defaults/DEVICE.json: the
sequence accuracy at each length, the number of steps, and the seconds that training and compiling
took.
"""

import argparse
import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from measure import environment, write

from experiments import default_config, evaluate, load_run, train
from experiments.run import Run

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "defaults"
LENGTHS = (40, 128, 256, 1024, 4096)
NUM_SEQUENCES = 512

NAMED = (
    *("parity", "even_pairs", "cycle_navigation", "flip_flop", "automaton", "random_automaton"),
    *("modular_arithmetic", "s3_word_problem", "s4_word_problem", "z60_word_problem"),
    *("d4_word_problem", "q8_word_problem", "a4_word_problem"),
    *("a5_word_problem", "s5_word_problem"),
)
# The automata of tests/experiments/test_rules.py, which were not used to make the rules.
RANDOM = {
    f"{kind}_{states}_{symbols}_{seed}": (
        "random_automaton",
        {"kind": kind, "states": states, "symbols": symbols, "seed": seed},
    )
    for kind, states, symbols in (
        *(("permutation", 4, 3), ("permutation", 6, 3), ("reset", 4, 5)),
        *(("mixed", 4, 5), ("mixed", 6, 6)),
    )
    for seed in range(100, 104)
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in NAMED} | RANDOM


def trained(case: str, seed: int) -> Run:
    """Return the run of a case and seed, after training it if it is not finished."""
    folder = ROOT / "runs" / f"default_{case}_{seed}"
    if not (folder / "config.json").exists():
        task, options = CASES[case]
        config = dataclasses.replace(default_config(task, **options), seed=seed)
        return train(config, folder, progress=False)
    run = load_run(folder)
    ended = run.status is not None and run.status.ended
    return run if ended else train(folder=folder, resume=True, progress=False)


def measured(run: Run) -> dict[int, float]:
    """Return the sequence accuracy of a run at each length at which it has been measured."""
    if not run.evaluation_path.exists():
        return {}
    rows = run.evaluations.filter(metric="sequence", num_sequences=NUM_SEQUENCES)
    return dict(rows.select("length", "value").iter_rows())


def row(case: str, seed: int) -> dict[str, Any]:
    """Train and evaluate one seed of a case, and return its row of results."""
    run = trained(case, seed)
    sequence = measured(run)
    if not sequence.keys() >= set(LENGTHS):
        evaluate(run, LENGTHS, num_sequences=NUM_SEQUENCES, progress=False)
        sequence = measured(run)
    seconds = sum(record["seconds"] + record["compile_seconds"] for record in run.metrics)
    return {
        "case": case,
        "seed": seed,
        "steps": run.metrics[-1]["step"],
        "training_s": round(seconds, 1),
        **{f"sequence_{length}": sequence[length] for length in LENGTHS},
    }


def keep(new: dict[str, Any]) -> None:
    """Add a row to the file of this device, in the order of cases and seeds."""
    name = re.sub(r"\W+", "_", environment()["device"]).strip("_").lower()
    path = RESULTS / f"{name}.json"
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = {(one["case"], one["seed"]): one for one in [*old, new]}
    order = sorted(rows, key=lambda name: (list(CASES).index(name[0]), name[1]))
    write(name, [rows[name] for name in order], RESULTS, num_sequences=NUM_SEQUENCES)


def main() -> None:
    """Train and evaluate all runs, print one line per run, and write all results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--seeds", type=int, nargs="*", default=range(100, 105))
    arguments = parser.parse_args()
    if unknown := set(arguments.cases) - CASES.keys():
        parser.error(f"unknown cases: {', '.join(sorted(unknown))}; choose from {', '.join(CASES)}")
    for case in arguments.cases:
        for seed in arguments.seeds:
            new = row(case, seed)
            print(*new.values(), flush=True)
            keep(new)


if __name__ == "__main__":
    main()
