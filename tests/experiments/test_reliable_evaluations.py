"""What docs/reliability.md promises of evaluations: nothing measured is replaced by less."""

import os
import shutil
import signal
from dataclasses import replace

import polars
import pytest
from attacked import Then, command, config
from polars.testing import assert_frame_equal

from experiments import (
    RunError,
    evaluate,
    load_run,
    train,
)
from experiments.results import gather, summarize
from experiments.sweeps import Sweep, create_sweep, run_sweep, vary

pytestmark = pytest.mark.slow


# 1 and 2: evaluations


def test_a_smaller_evaluation_adds_and_a_larger_one_wins(copy):
    first = copy.evaluation
    assert command("evaluate", copy.folder, "--lengths", "4,7", "--num-sequences", 3).exit_code == 0
    assert_frame_equal(copy.evaluation, first)
    assert set(copy.evaluations["length"]) == {4, 7, 9}
    evaluate(copy, num_sequences=12)
    assert set(copy.evaluation["num_sequences"]) == {12}
    rows = copy.evaluations.height
    evaluate(copy, num_sequences=12)
    assert copy.evaluations.height == rows, "the same measurement again replaces itself"
    assert set(copy.chosen_evaluation(3)["length"]) == {4, 7}
    with pytest.raises(RunError, match=r"num_sequences: got 5, expected .*: 3, 6, 12"):
        copy.chosen_evaluation(5)


def test_a_single_long_length_of_many_sequences_does_not_replace_the_curve(copy):
    evaluate(copy, [30], num_sequences=20)
    assert set(copy.evaluation["length"]) == {4, 9}
    assert set(copy.chosen_evaluation(20)["length"]) == {30}


def test_corrections_are_kept_apart(copy):
    evaluate(copy, snap_every=2)
    evaluate(copy, snap_every=3)
    corrected = copy.evaluations.filter(metric="snapped_token")
    assert set(corrected["snap_every"]) == {2, 3}
    assert copy.evaluation.filter(metric="snapped_token", length=4).height == 1


def test_rows_say_which_model_they_are_of(copy):
    rows = copy.evaluation
    assert set(rows["step"]) == {6}
    assert set(rows["checkpoint"]) == {copy.checkpoint.identity}
    assert set(rows["evaluation_seed"]) == {copy.config.evaluation.seed}


def test_what_is_trained_on_is_evaluated_anew_and_the_old_rows_stay(tmp_path):
    longer = Then(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", progress=False, trackers=[longer])
    half = load_run(tmp_path / "run")
    evaluate(half)
    assert set(half.evaluation["step"]) == {4}
    train(folder=tmp_path / "run", resume=True, progress=False)
    ended = load_run(tmp_path / "run")
    assert not ended.is_evaluated
    evaluate(ended)
    assert ended.is_evaluated
    assert set(ended.evaluation["step"]) == {6}
    assert set(ended.evaluations["step"]) == {4, 6}


def test_a_fallback_is_said_on_the_result_and_its_rows(copy):
    shutil.rmtree(copy.checkpoints / "6")
    with pytest.warns(RuntimeWarning, match="6 is corrupt"):
        result = evaluate(copy, num_sequences=3)
    assert result.step == 4
    assert "6 is corrupt" in result.notes[0]
    assert "6 is corrupt" in str(result)
    kept = copy.evaluations.filter(step=4)
    assert "6 is corrupt" in kept["passed_over"][0]
    assert set(copy.evaluation["step"]) == {6}, "rows of the last step stay those that are shown"


@pytest.mark.parametrize("listed", [True, False])
def test_an_untrained_model_is_not_evaluated_in_place_of_a_trained_one(copy, listed):
    for step in (4, 6):
        shutil.rmtree(copy.checkpoints / str(step))
    if not listed:
        (copy.checkpoints / "sealed.json").unlink()
    shutil.rmtree(copy.checkpoints / "2")
    untrained = train_to_zero(copy.folder.parent / "zero")
    shutil.copytree(untrained / "checkpoints" / "0", copy.checkpoints / "0")
    with pytest.raises(RunError, match=r"step 0.*not trained"):
        evaluate(copy)


def train_to_zero(folder):
    """A run that was stopped before its first step."""

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config(), folder, progress=False, trackers=[Then(2, stop)])
    assert (folder / "checkpoints" / "0").is_dir()
    return folder


def test_printing_a_result_prints_its_numbers(copy):
    text = str(evaluate(copy))
    row = copy.evaluation.filter(metric="sequence", length=9).row(0, named=True)
    assert f"{row['value']:.3f} ({row['low']:.3f}-{row['high']:.3f})" in text
    assert "token" in text
    assert "of step 6" in text


def test_results_of_a_sweep_do_not_mix_settings(tmp_path):
    sweep = Sweep(config(), tuple(vary("seed", [0, 1])))
    folder = create_sweep(sweep, tmp_path / "sweep")
    run_sweep(folder.path, progress=False)
    before = gather(folder.path)
    member = folder.run(folder.plan.members[0])
    evaluate(member, [4, 30], num_sequences=3)
    assert_frame_equal(gather(folder.path), before)
    evaluate(member, num_sequences=12)  # more, but of one member alone
    assert_frame_equal(gather(folder.path), before)
    few = gather(folder.path, num_sequences=3)
    assert set(few.drop_nulls("metric")["member"]) == {"seed=0"}
    evaluate(folder.run(folder.plan.members[1]), num_sequences=12)
    assert set(gather(folder.path)["num_sequences"]) == {12}
    assert summarize(gather(folder.path))["n"].to_list() == [2, 2]
    shown = command("results", folder.path)
    assert "12 sequences a length, evaluation seed" in shown.stdout


def test_resuming_a_sweep_repairs_an_evaluation_that_lacks_lengths(tmp_path):
    sweep = Sweep(config(), tuple(vary("seed", [0, 1])))
    folder = create_sweep(sweep, tmp_path / "sweep")
    run_sweep(folder.path, progress=False)
    member = folder.run(folder.plan.members[0])
    before = gather(folder.path)
    rows = member.evaluations.filter(polars.col("length") == 4)
    rows.write_parquet(member.evaluation_path)  # as an older version left it
    run_sweep(folder.path, progress=False)
    assert_frame_equal(gather(folder.path), before)


def test_a_member_without_the_others_sequences_counts_as_not_evaluated(tmp_path):
    folder = create_sweep(Sweep(config(), tuple(vary("seed", [0, 1, 2]))), tmp_path / "sweep")
    run_sweep(folder.path, progress=False)
    first, second, _ = (folder.run(member) for member in folder.plan.members)
    evaluate(first, num_sequences=12)
    kept = second.evaluations.filter(polars.col("length") == 4)
    kept.write_parquet(second.evaluation_path)
    frame = gather(folder.path)
    assert set(frame.drop_nulls("metric")["num_sequences"]) == {6}
    assert set(frame.filter(length=9)["member"]) == {"seed=0", "seed=2"}


@pytest.mark.parametrize("loss", ["member", "members", "evaluation"])
def test_a_table_is_not_replaced_by_less(tmp_path, loss):
    folder = create_sweep(Sweep(config(), tuple(vary("seed", [0, 1]))), tmp_path / "sweep").path
    run_sweep(folder, progress=False)
    before = (folder / "results.parquet").read_bytes()
    if loss == "evaluation":
        (folder / "members" / "seed=1" / "evaluation.parquet").write_bytes(b"PAR1")
    else:
        gone = ["seed=1"] if loss == "member" else ["seed=0", "seed=1"]
        for member in gone:
            shutil.rmtree(folder / "members" / member)
    with pytest.warns(RuntimeWarning, match=r"results\.parquet is not written anew"):
        gather(folder)
    assert (folder / "results.parquet").read_bytes() == before


def test_rows_of_an_older_version_are_not_hidden_by_a_smaller_evaluation(copy):
    frame = copy.evaluations
    new = ["step", "checkpoint", "evaluation_seed", "snap_every", "passed_over"]
    frame.drop(new).write_parquet(copy.evaluation_path)
    assert copy.is_evaluated
    evaluate(copy, [4], num_sequences=3)
    assert set(copy.evaluation["num_sequences"]) == {6}
    assert set(copy.evaluation["length"]) == {4, 9}


def test_what_was_asked_is_met_by_one_set_alone(copy):
    copy.evaluation_path.unlink()
    evaluate(copy, [4], num_sequences=12)
    evaluate(copy, [9], num_sequences=6)
    assert not copy.is_evaluated
    evaluate(copy, snap_every=3)
    assert copy.is_evaluated
    asked = replace(copy.asked, snap_every=2)
    assert not asked.is_met(copy.evaluations, 6)
    assert replace(asked, snap_every=3).is_met(copy.evaluations, 6)


def test_what_could_not_be_kept_is_shown(copy, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("experiments.evaluating.add_rows", full)
    result = command("evaluate", copy.folder, "--num-sequences", 4)
    assert result.exit_code == 1
    assert "sequence" in result.stdout
    assert "could not be written" in result.stderr


def test_a_finished_member_whose_last_checkpoint_is_damaged_is_reported(tmp_path):
    folder = create_sweep(Sweep(config(), tuple(vary("seed", [0, 1]))), tmp_path / "sweep")
    run_sweep(folder.path, progress=False)
    member = folder.run(folder.plan.members[1])
    (member.checkpoints / "6" / "manifest.json").unlink()
    member.evaluation_path.unlink()
    with (
        pytest.warns(RuntimeWarning, match="6 is corrupt"),
        pytest.raises(RunError, match=r"seed=1: .*6 is corrupt .*plstm-seq train --folder"),
    ):
        run_sweep(folder.path, progress=False)
    with pytest.warns(RuntimeWarning, match="6 is corrupt"):
        train(folder=member.folder, resume=True, progress=False)
    run_sweep(folder.path, progress=False)
    assert set(gather(folder.path)["evaluated_step"]) == {6}


def test_a_source_that_is_damaged_stops_its_member_alone(tmp_path):
    sources = [train(config(), tmp_path / f"source{n}", progress=False) for n in range(2)]
    (sources[1].checkpoints / "6" / "manifest.json").unlink()
    sweep = Sweep(config(), tuple(vary("initial_run", [str(s.folder) for s in sources])))
    folder = create_sweep(sweep, tmp_path / "sweep")
    with (
        pytest.warns(RuntimeWarning, match="6 is corrupt"),
        pytest.raises(RunError, match=r"1 of 2 members: .*cannot start from run"),
    ):
        run_sweep(folder.path, progress=False)
    assert folder.run(folder.plan.members[0]).is_evaluated
