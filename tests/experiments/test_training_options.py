"""Options of training as a user meets them: on the command line, in runs and in sweeps."""

import dataclasses
import json

import numpy as np
import polars
import pytest
from flax import nnx
from small_run import small_config

from experiments import ConfigError, RunError, default_config, evaluate, load_run, override, train
from experiments.config import from_document, to_document
from experiments.exporting import export_run
from experiments.presets import scaled_training
from experiments.show import evaluation_table
from experiments.sweep_commands import status_table
from experiments.sweeps import Sweep, create_sweep, product, run_sweep, status, vary
from plstm_seq.training import ByAccuracy, Solved
from plstm_seq.training.leaves import named_leaves

STAGES = (
    "curriculum=by_accuracy",
    "stages=[[2, 4], [5, 4]]",
    "smallest_bucket=2",
    "steps=8",
    "solved=null",
)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "averaged"
    return train(small_config("parity", "average=0.9"), folder, progress=False)


def test_averaged_parameters_are_evaluated_beside_the_last(averaged):
    assert not averaged.is_evaluated
    result = evaluate(averaged)
    metrics = {"token", "sequence", "last", "segment"}
    found = {row.metric for row in result.rows}
    assert found == metrics | {f"averaged_{metric}" for metric in metrics}
    assert averaged.is_evaluated
    chosen = averaged.evaluation
    lengths = chosen.filter(metric="averaged_sequence")["length"].sort().to_list()
    assert lengths == [4, 9]
    plain = averaged.evaluations.filter(~polars.col("metric").str.starts_with("averaged_"))
    assert not averaged.asked.is_met(plain, averaged.last_step)
    assert any("averaged" in str(part) for part in evaluation_table(result).renderables)


def test_a_run_has_both_models(averaged, tmp_path):
    run = load_run(averaged.folder)
    last, average = (named_leaves(nnx.state(m)) for m in (run.model, run.averaged_model))
    assert last.keys() == average.keys()
    assert any(not np.array_equal(last[name], average[name]) for name in last)
    export_run(run, tmp_path / "last.safetensors")
    export_run(run, tmp_path / "average.safetensors", weights="average")
    one, other = ((tmp_path / f"{n}.safetensors").read_bytes() for n in ("last", "average"))
    assert one != other
    with pytest.raises(ConfigError, match="expected one of last, average"):
        export_run(run, tmp_path / "x.safetensors", weights="best")


def test_a_run_without_an_average_says_so(averaged):
    plain = dataclasses.replace(averaged, config=small_config())
    with pytest.raises(RunError, match=r"training\.average"):
        _ = plain.averaged_model


def test_stages_by_accuracy_are_chosen_on_the_command_line():
    config = override(default_config("parity"), ["curriculum=by_accuracy", "curriculum.checks=2"])
    curriculum = config.training.curriculum
    assert isinstance(curriculum, ByAccuracy)
    # The stages are those that the task has by steps, and add up to its steps.
    assert curriculum.stages == default_config("parity").training.curriculum.stages
    assert from_document(to_document(config)) == config
    # The steps bound all stages together, whatever each may take.
    assert override(config, ["stages=[[4, 9000], [40, 9000]]"]).training.steps == 2000


def test_scale_multiplies_stages_by_accuracy():
    training = override(default_config("parity"), ["curriculum=by_accuracy"]).training
    scaled = scaled_training(training, 0.1)
    assert scaled.curriculum.stages == ((4, 60), (8, 40), (16, 40), (40, 60))
    assert scaled.steps == 200
    assert scaled_training(training, 1e-6).steps == 4


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("curriculum=by_accuracy", "expected sizes"),
        ("max_tokens=64", "training.max_tokens: expected none"),
        ("solved={lengths: [8]}", "no lengths and no mixture"),
    ],
)
def test_what_has_no_length_is_refused(assignment, message):
    with pytest.raises(ConfigError, match=message):
        override(default_config("grid_parity"), [assignment])


def test_solved_is_measured_on_other_lengths(tmp_path):
    options = ("solved={threshold: 0.0, checks: 1, mixture: [6, 12], num_sequences: 4, every: 4}",)
    run = train(small_config("parity", *options), tmp_path / "run", progress=False)
    assert run.config.training.solved == Solved(
        threshold=0.0, checks=1, mixture=(6, 12), num_sequences=4, every=4
    )
    assert run.status.status == "solved"
    assert [r["step"] for r in run.metrics if "solved_accuracy" in r] == [4]


def test_the_stages_of_a_sweep_are_shown(tmp_path):
    config = override(small_config(), STAGES)
    settings = tuple(product(vary("seed", [0, 1]), vary("learning_rate", [1e-3, 1e-9])))
    folder = create_sweep(Sweep(config, settings), tmp_path / "sweep")
    assert len(folder.plan.groups) == 1
    run_sweep(folder.path, progress=False)
    rows = status(folder.path)
    assert {(row.status, row.step, row.stage) for row in rows} == {("finished", 8, "2/2")}
    headers = [str(column.header) for column in status_table(rows).renderables[0].columns]
    assert headers == ["member", "group", "status", "step", "stage", "evaluated"]
    metrics = (folder.run(folder.plan.members[0]).metrics_path).read_text().splitlines()
    assert [json.loads(line)["stage"] for line in metrics] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("task", "assignment", "message"),
    [
        ("s3_word_problem", "num_blocks=2", r"expected 0 for this model: model\.num_blocks: got 2"),
        ("s3_word_problem", "mixer=lstm", r"model\.mixer: got lstm, expected a pLSTM layer"),
        ("s3_word_problem", "mixer.convolution={}", r"model\.mixer\.convolution: got one"),
        ("grid_parity", "width=8", "expected 0: grid_parity has no words"),
        (
            "s3_word_problem",
            "loss=binary_cross_entropy",
            "consistency: got .*, expected 0 with loss",
        ),
    ],
)
def test_a_consistency_term_for_what_has_no_transitions_by_token_is_refused(
    task, assignment, message
):
    with pytest.raises(ConfigError, match=rf"training[^;]*{message}"):
        override(default_config(task), [assignment, "consistency=0.1"])


def test_a_consistency_term_is_refused_before_anything_is_written(tmp_path):
    config = small_config("s3_word_problem", "num_blocks=2")
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, consistency=0.1)
    )
    with pytest.raises(ConfigError, match=r"training\.consistency: got 0\.1, expected 0"):
        train(config, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_a_consistency_term_is_recorded(tmp_path):
    config = small_config("s3_word_problem", "consistency=0.1", "steps=2", "solved=null")
    assert from_document(to_document(config)) == config
    without = to_document(config)
    del without["training"]["consistency"]  # as older versions wrote it
    assert from_document(without).training.consistency == 0
    run = train(config, tmp_path / "run", progress=False)
    assert [record["consistency_share"] for record in run.metrics] == [0]
