from pathlib import Path

import jax
import pytest
from toy import FaultyParity, Parity

from plstm_seq.evaluation import (
    Stream,
    length_generalization,
    read_parquet,
    to_frame,
    write_parquet,
)


@pytest.fixture(scope="module")
def result():
    task = Parity()
    return length_generalization(
        FaultyParity(5),
        Stream(task.draw, task.start, task.advance),
        [4, 8],
        chance=0.5,
        key=jax.random.key(0),
        num_sequences=4,
        chunk_size=8,
    )


def test_one_row_for_each_length_and_metric_with_the_callers_columns(tmp_path, result):
    path = tmp_path / "deep" / "evaluation.parquet"
    write_parquet(path, result, seed=3, task="parity", learning_rate=1e-3, preset=None)
    table = read_parquet(path)
    assert table.select("metric", "length", "start").rows() == [
        ("token", 4, 0),
        ("sequence", 4, 0),
        ("last", 4, 0),
        ("token", 8, 0),
        ("sequence", 8, 0),
        ("last", 8, 0),
        ("segment", 8, 4),
    ]
    assert table.columns == [
        *("metric", "length", "start", "value", "low", "high", "scaled", "num_sequences"),
        *("chance", "confidence", "chunk_size", "whole"),
        *("seed", "task", "learning_rate", "preset"),
    ]
    for row, written in zip(result.rows, table.rows(), strict=True):
        assert tuple(row) == written[:8]
    assert table["seed"].to_list() == [3] * 7
    assert table.equals(to_frame(result, seed=3, task="parity", learning_rate=1e-3, preset=None))
    assert [file.name for file in path.parent.iterdir()] == ["evaluation.parquet"]


def test_a_failed_write_leaves_the_old_file_whole(tmp_path, result, monkeypatch):
    path = tmp_path / "evaluation.parquet"
    write_parquet(path, result, seed=1)
    before = path.read_bytes()

    write = Path.write_bytes

    def half(self, data):
        write(self, data[: len(data) // 2])
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="disk full"):
        write_parquet(path, result, seed=2)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["evaluation.parquet"]


def test_a_column_cannot_hide_a_measured_one(result):
    with pytest.raises(ValueError, match=r"\['length', 'whole'\]"):
        to_frame(result, length=3, whole=True)
