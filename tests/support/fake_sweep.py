"""The folder of a sweep that was never trained: files of real configs with invented results."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from small_run import small_config

from experiments.config import ExperimentConfig
from experiments.config_files import write_config
from experiments.sweeps.plan import plan
from experiments.sweeps.sweep import sweep_of_words, to_yaml
from plstm_seq.evaluation import LengthGeneralization, Outcomes, Row, scaled, wilson, write_parquet

SEQUENCES = 100
ENVIRONMENT = {"device": "cpu", "platform": "cpu", "python": "3.11.2", "jax": "0.10.2"}


class Fake(NamedTuple):
    """What a member is made to have.

    Attributes:
        accuracy: by length, how many of 100 sequences are right, and of 100 tokens; None: not
            evaluated.
        status: in status.json; None: there is none.
        records: (step, seconds, sequence accuracy) in metrics.jsonl.
        cost: cost.json; None: there is none.
        begun: whether the member has a folder.
    """

    accuracy: Mapping[int, tuple[int, int]] | None = None
    status: str | None = "finished"
    error: str | None = None
    records: tuple[tuple[int, float, float], ...] = ((2, 1.0, 0.2), (4, 1.0, 0.5), (6, 2.0, 0.9))
    cost: Mapping[str, float | None] | None = None
    begun: bool = True


def cost(parameters=1000, state_size=64, flops=2000.0, members=1):
    """A cost.json."""
    return {
        "parameters": parameters,
        "state_size": state_size,
        "flops_per_token": flops,
        "tokens_per_second": 5e6 / flops,
        "members_in_program": members,
        "peak_memory_bytes": 4 * parameters * members,
    }


def make_sweep(
    folder: Path,
    words: str,
    result: Callable[[ExperimentConfig], Fake],
    *,
    base: ExperimentConfig | None = None,
) -> Path:
    """Writes a sweep's folder.

    Args:
        folder: where.
        words: `transition.dim=1,2 seed=0..2`.
        result: what each member has.
        base: the config that members share; None: a small one on parity.
    """
    sweep = sweep_of_words(base or small_config(), words.split())
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(to_yaml(sweep))
    for member in plan(sweep).members:
        fake = result(member.config)
        if fake.begun:
            _write_member(folder / "members" / member.name, member.config, fake)
    return folder


def _write_member(folder: Path, config: ExperimentConfig, fake: Fake) -> None:
    folder.mkdir(parents=True)
    write_config(config, folder / "config.yaml")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
    records = [
        {
            "step": step,
            "seconds": seconds,
            "loss": 1 - accuracy,
            "sequence_accuracy": accuracy,
            "token_accuracy": (1 + accuracy) / 2,
        }
        for step, seconds, accuracy in fake.records
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if fake.status is not None:
        step = fake.records[-1][0] if fake.records else 0
        status = {"status": fake.status, "step": step, "error": fake.error}
        (folder / "status.json").write_text(json.dumps(status))
    if fake.cost is not None:
        (folder / "cost.json").write_text(json.dumps(fake.cost))
    if fake.accuracy is not None:
        write_evaluation(folder / "evaluation.parquet", fake.accuracy)


def write_evaluation(path: Path, accuracy: Mapping[int, tuple[int, int]]) -> None:
    """An evaluation.parquet of the schema of `plstm_seq.evaluation`."""
    lengths = tuple(sorted(accuracy))
    empty = np.zeros((len(lengths), SEQUENCES), int)
    rows = []
    for length in lengths:
        sequence, token = accuracy[length]
        counts = {"token": token, "sequence": sequence, "last": token}
        for metric, count in counts.items():
            estimate = wilson(count, SEQUENCES)
            chance = scaled(estimate.value, 0.5)
            rows.append(Row(metric, length, 0, *estimate, chance, SEQUENCES))
    result = LengthGeneralization(
        outcomes=Outcomes(lengths, empty, empty, empty.astype(bool), nested=True),
        chance=0.5,
        confidence=0.95,
        chunk_size=4,
        whole=False,
        skipped=(),
        rows=tuple(rows),
    )
    write_parquet(path, result, run=path.parent.name, JT=2, seed=0)
