"""What `plstm-seq train TASK` alone learns: every case on fresh seeds, and how far it holds.

python benchmarks/defaults.py                         all cases, seeds 100 to 104
python benchmarks/defaults.py parity --seeds 100      some

Trains as the command does, in runs/default_CASE_SEED; a run that is there and finished is not
trained again, and what a stopped one has is kept. Adds to results/defaults/DEVICE.json: sequence
accuracy at each length, steps, and the seconds that training and compiling took.
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
# The automata of tests/experiments/test_rules.py: no rule was made on them.
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
    """The run of a case, which is trained unless it is there."""
    folder = ROOT / "runs" / f"default_{case}_{seed}"
    if not (folder / "config.json").exists():
        task, options = CASES[case]
        config = dataclasses.replace(default_config(task, **options), seed=seed)
        return train(config, folder, progress=False)
    run = load_run(folder)
    ended = run.status is not None and run.status.ended
    return run if ended else train(folder=folder, resume=True, progress=False)


def measured(run: Run) -> dict[int, float]:
    """Sequence accuracy of a run at each length at which it has been measured."""
    if not run.evaluation_path.exists():
        return {}
    rows = run.evaluations.filter(metric="sequence", num_sequences=NUM_SEQUENCES)
    return dict(rows.select("length", "value").iter_rows())


def row(case: str, seed: int) -> dict[str, Any]:
    """One seed of a case."""
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
    """Adds a row to those of this device's file, in the order of cases and seeds."""
    name = re.sub(r"\W+", "_", environment()["device"]).strip("_").lower()
    path = RESULTS / f"{name}.json"
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = {(one["case"], one["seed"]): one for one in [*old, new]}
    order = sorted(rows, key=lambda name: (list(CASES).index(name[0]), name[1]))
    write(name, [rows[name] for name in order], RESULTS, num_sequences=NUM_SEQUENCES)


def main() -> None:
    """Trains, evaluates, prints a line a run and writes all of them."""
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
