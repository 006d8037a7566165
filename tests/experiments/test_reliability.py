"""What docs/reliability.md promises of runs and sweeps, one attack after the other."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars
import pytest
from polars.testing import assert_frame_equal
from small_run import small_config
from typer.testing import CliRunner

from experiments import (
    RunError,
    evaluate,
    load_run,
    override,
    read_config,
    train,
    write_config,
)
from experiments.cli import app
from experiments.config import ConfigError, to_document
from experiments.files import seal
from experiments.results import gather, summarize
from experiments.run import RunStatus
from experiments.sweeps import Sweep, create_sweep, run_sweep, vary
from plstm_seq.training import DamagedRecordsError, read_jsonl
from plstm_seq.training.trackers import TIMING_FIELDS

pytestmark = pytest.mark.slow

PLAIN = ("transition=diagonal", "convolution=null", "steps=6", "checkpoint_every=2")
REPOSITORY = Path(__file__).parents[2]


def config(*assignments):
    return small_config("parity", *PLAIN, *assignments)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run = train(config(), tmp_path_factory.mktemp("runs") / "whole", progress=False)
    evaluate(run)
    return run.folder


@pytest.fixture
def copy(whole, tmp_path):
    return load_run(shutil.copytree(whole, tmp_path / "copy"))


def command(*words, columns="200"):
    return CliRunner().invoke(app, list(map(str, words)), env={"COLUMNS": columns})


class Then:
    """Does something once a record of a step is written."""

    def __init__(self, step, act):
        self.step, self.act = step, act

    def start(self, step, steps):
        pass

    def log(self, record):
        if record["step"] == self.step:
            self.act()

    def close(self, status):
        pass


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
    with pytest.raises(RunError, match="with 5 sequences a length: there are 3, 6, 12"):
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


# 4: the folder of a run


def test_a_config_that_lost_its_end_is_refused(copy):
    path = copy.folder / "config.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("evaluation:")])
    for words in (["evaluate", copy.folder], ["train", "--folder", copy.folder, "--resume"]):
        result = command(*words)
        assert result.exit_code == 2
        assert f"{path} is damaged" in result.stderr
        assert "delete it to go on with" in result.stderr
    path.unlink()
    assert load_run(copy.folder).config == copy.config


def test_a_config_of_an_older_version_is_complete_or_refused(copy):
    complete, path = copy.folder / "config.json", copy.folder / "config.yaml"
    sealed = complete.read_bytes()
    complete.unlink()
    with pytest.raises(RunError, match=r"config.json is damaged \(it is missing\)"):
        load_run(copy.folder)
    write_config(copy.config, path)
    assert load_run(copy.folder).config == copy.config
    text = path.read_text()
    path.write_text(text[: text.index("\nseed:") + 1])
    with pytest.raises(RunError, match="it lacks dtype, seed"):
        load_run(copy.folder)

    # Beside config.json, the file of an older version begins with another line, and is complete.
    complete.write_bytes(sealed)
    header = "# For the reader: what is loaded is config.json, and so on\n"
    path.write_text(header + text)
    assert load_run(copy.folder).config == copy.config
    complete.write_text(seal(to_document(override(copy.config, ["task.labels_at=last"]))))
    with pytest.raises(RunError, match=r"task\.labels_at is not what"):
        load_run(copy.folder)


def test_a_changed_config_names_the_field(copy):
    path = copy.folder / "config.yaml"
    text = path.read_text()
    path.write_text(text + "seed: 1\n")
    with pytest.raises(RunError, match=r"seed is not what config\.json says"):
        load_run(copy.folder)
    path.write_text("# A remark\n" + text)
    with pytest.raises(RunError, match="its checksum is another"):
        load_run(copy.folder)


def test_the_config_for_the_reader_has_few_lines_and_is_the_same(copy):
    path = copy.folder / "config.yaml"
    assert read_config(path) == copy.config
    assert len(path.read_text().splitlines()) <= 40


def test_a_damaged_record_is_put_aside_and_the_later_ones_stay(tmp_path):
    stop = Then(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", progress=False, trackers=[stop])
    path = tmp_path / "run" / "metrics.jsonl"
    data = bytearray(path.read_bytes())
    data[3] ^= 0x15
    path.write_bytes(data)
    with pytest.raises(DamagedRecordsError, match="line 1 is damaged"):
        read_jsonl(path)
    with pytest.warns(RuntimeWarning, match=r"kept as metrics.damaged-1.jsonl, and 1 records"):
        run = train(folder=tmp_path / "run", resume=True, progress=False)
    assert [record["step"] for record in run.metrics] == [4, 6]
    assert (tmp_path / "run" / "metrics.damaged-1.jsonl").read_bytes() == data


def test_one_wrong_step_damages_its_own_line_alone(copy):
    text = copy.metrics_path.read_text()
    copy.metrics_path.write_text(text.replace('"step": 2,', '"step": 9,'))
    with pytest.raises(RunError, match=r"line 1 is damaged \(step 9 is out of order\)"):
        _ = copy.metrics


def test_records_that_are_lost_are_reported(tmp_path):
    stop = Then(4, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", progress=False, trackers=[stop])
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    with pytest.warns(RuntimeWarning, match="no record of step 4"):
        train(folder=tmp_path / "run", resume=True, progress=False)


def test_without_checkpoints_records_are_not_replaced(copy):
    shutil.rmtree(copy.checkpoints)
    copy.checkpoints.mkdir()
    before = copy.metrics_path.read_bytes()
    with pytest.raises(RunError, match="no checkpoint left"):
        train(folder=copy.folder, resume=True, progress=False)
    assert copy.metrics_path.read_bytes() == before
    assert load_run(copy.folder).status == RunStatus("finished", 6)


# 5: success without a result


@pytest.mark.parametrize("removed", ["", "metrics.jsonl", "checkpoints"])
def test_what_is_removed_while_it_is_trained_is_no_success(tmp_path, removed):
    folder = tmp_path / "run"

    def remove():
        path = folder / removed
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    with pytest.raises(OSError, match=r"was removed|No such file"):
        train(config(), folder, progress=False, trackers=[Then(2, remove)])
    if removed:
        step, error = load_run(folder).status[1:]
        assert load_run(folder).status.status == "failed"
        assert step in (2, 4)
        assert "was removed" in error
    else:
        assert not (folder / "status.json").exists()


def test_a_member_whose_folder_is_removed_fails_alone(tmp_path, monkeypatch):
    from experiments.sweeps import group

    sweep = Sweep(config(), tuple(vary("seed", [0, 1])))
    folder = create_sweep(sweep, tmp_path / "sweep").path

    def trackers(names, run, of):
        act = Then(2, lambda: shutil.rmtree(run.folder))
        return [act] if run.config.seed == 1 else []

    monkeypatch.setattr(group, "make_trackers", trackers)
    with pytest.raises(RunError, match=r"1 of 2 members: seed=1: .*was removed"):
        run_sweep(folder, progress=False)
    assert load_run(folder / "members" / "seed=0").is_evaluated
    monkeypatch.undo()
    run_sweep(folder, progress=False)
    assert gather(folder)["status"].unique().to_list() == ["finished"]


# 6: two processes


def test_a_run_that_is_being_trained_is_left_alone(copy):
    with copy.lock() as mine:
        assert mine
        result = command("train", "--folder", copy.folder, "--resume")
        assert result.exit_code == 2
        assert f"process {os.getpid()} on" in result.stderr
    assert copy.holder is None


def test_a_member_that_another_process_trains_is_left_alone(tmp_path):
    sweep = Sweep(config(), tuple(vary("seed", [0, 1])))
    folder = create_sweep(sweep, tmp_path / "sweep")
    member = folder.create_run(folder.plan.members[1])
    with member.lock(), pytest.raises(RunError, match=r"seed=1: .* trains it"):
        run_sweep(folder.path, progress=False)
    assert {path.name for path in member.folder.iterdir()} <= {
        "config.json",
        "config.yaml",
        "environment.json",
        "train.lock",
    }
    run_sweep(folder.path, progress=False)


# 7: signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_signals_to_end_save_first(tmp_path, number):
    process = start("train", "parity", *SLOW, "--name", "told", cwd=tmp_path)
    folder = tmp_path / "runs" / "told"
    wait_for(lambda: (folder / "metrics.jsonl").exists() and read_jsonl(folder / "metrics.jsonl"))
    process.send_signal(number)
    time.sleep(0.01)
    process.send_signal(number)  # a second one does not cut off the saving
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 130, errors
    assert "continue with: plstm-seq train --name told --resume" in errors
    status = load_run(folder).status
    assert status is not None
    assert status.status == "interrupted"
    assert (folder / "checkpoints" / str(status.step)).is_dir()


SLOW = (*PLAIN, "steps=100000", "checkpoint_every=50000", "width=8", "num_heads=1",
        "curriculum=uniform", "curriculum.maximum=5", "training.batch_size=4",
        "implementation=recurrent", "steps_per_dispatch=2", "solved=null")  # fmt: skip


def start(*words, cwd, **options):
    script = "from experiments.cli import main; main()"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def wait_for(condition, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


# 8: reading needs no writing


# Root may write everywhere; a program that is started after this has not that right.
WITHOUT_OVERRIDE = """
import ctypes, os, sys
drop_from_bounding_set, dac_override = 24, 1
if os.getuid() == 0 and "DROPPED" not in os.environ:
    ctypes.CDLL(None).prctl(drop_from_bounding_set, dac_override, 0, 0, 0)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "DROPPED": "1"})
"""


def test_a_read_only_folder_is_read(tmp_path):
    """In a process that has not root's right to write everywhere."""
    sweep = Sweep(config(), tuple(vary("seed", [0, 1])))
    folder = create_sweep(sweep, tmp_path / "sweep").path
    run_sweep(folder, progress=False)
    member = folder / "members" / "seed=0"
    away = tmp_path / "away"
    away.mkdir()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    shutil.rmtree(folder / "groups")
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    script = f"""
from typer.testing import CliRunner
from experiments.cli import app
for words in (
    ["status", {str(folder)!r}],
    ["results", {str(folder)!r}],
    ["compare", {str(folder)!r}],
    ["report", {str(folder)!r}],
    ["resume", {str(folder)!r}],
    ["decode", {str(member)!r}, "0 1"],
    ["plot", {str(member)!r}],
    ["export", {str(member)!r}, "weights.safetensors"],
):
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, (words, result.output)
result = CliRunner().invoke(app, ["evaluate", {str(member)!r}])
assert result.exit_code == 2 and "is read-only" in result.stderr, result.output
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OVERRIDE + script],
        cwd=away,
        env=environment,
        capture_output=True,
        text=True,
    )
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert done.returncode == 0, done.stderr
    assert {"sweep_report.html", "weights.safetensors"} <= {path.name for path in away.iterdir()}
    assert all(before[path] == path.stat().st_mtime_ns for path in folder.rglob("*.p*"))


# 9: refused commands leave nothing


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("parity", "--tracker", "wandb"), "needs the package wandb"),
        (("parity", "implementation=pallas_tpu"), "TPU"),
        (("parity", "width=10", "num_heads=4", "DK=null", "DV=null"), "model"),
        (("arrow_pointing", "model=vision", "patch_size=7"), "model"),
        (("parity", "training.batch_size=0"), "training: batch_size"),
        (("parity", "evaluation.num_sequences=0"), "evaluation: num_sequences"),
        (("parity", "nonsense=1"), "nonsense"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.parametrize("kind", ["train", "sweep"])
def test_a_refused_command_leaves_nothing(tmp_path, monkeypatch, kind, words, message):
    monkeypatch.chdir(tmp_path)
    if kind == "sweep":
        words = (*words, "seed=0,1")
    result = command(kind, *words, "--name", "mine")
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_path_that_checkpoints_cannot_be_written_to_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("train", "sweep"):
        result = command(kind, "parity", "seed=0", "--folder", "a[x]")
        assert result.exit_code == 2
        assert "without the letters [ ] * ?" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_made_and_never_filled_is_free(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".config.json.1.tmp").touch()
    assert train(config(), tmp_path / "run", progress=False).status == RunStatus("finished", 6)


# 10: a full disk, no memory


def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path):
    """A limit to the size of files stands for the disk: the checkpoint cannot be written."""
    script = """
import resource, signal, sys
from experiments.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.argv = ["plstm-seq", *sys.argv[1:]]
resource.setrlimit(resource.RLIMIT_FSIZE, (@, -1))
main()
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    run = train(config(), tmp_path / "run", progress=False)
    configs = [run.folder / name for name in ("config.json", "config.yaml", "environment.json")]
    limit = max(path.stat().st_size for path in configs) + 200
    words = ["train", "parity", *(word for word in SLOW if not word.startswith("steps=1")),
             "steps=6", "--folder", str(tmp_path / "full")]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", script.replace("@", str(limit)), *words],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (1, 2), done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert "could not be written" in errors[0]
    assert not list((tmp_path / "full" / "checkpoints").glob("*.tmp*")), "no room is taken"
    again = train(folder=tmp_path / "full", resume=True, progress=False)
    assert again.status == RunStatus("finished", 6)


def test_no_memory_is_one_line(copy, monkeypatch):
    def exhausted(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12345 bytes.\nmore\nlines")

    monkeypatch.setattr("experiments.evaluating.length_generalization", exhausted)
    result = command("evaluate", copy.folder)
    assert result.exit_code == 1
    assert len(result.stderr.strip().splitlines()) == 1
    assert "out of memory" in result.stderr


# 11: names


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/tmp/x", "..", ".", ""])
@pytest.mark.parametrize("kind", ["train", "sweep"])
def test_names_do_not_leave_their_folder(tmp_path, monkeypatch, kind, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    result = command(kind, "parity", "seed=0", "--name", name)
    assert result.exit_code == 2
    assert "--folder" in result.stderr
    assert not list(inside.iterdir())
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


def test_an_explicit_path_may_lie_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word for word in SLOW if not word.startswith("steps=1")]
    result = command("train", "parity", *words, "steps=2", "checkpoint_every=2",
                     "--folder", "../elsewhere")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert load_run(tmp_path.parent / "elsewhere").status == RunStatus("finished", 2)
    shutil.rmtree(tmp_path.parent / "elsewhere")
    both = command("train", "parity", "--name", "a", "--folder", "b")
    assert "give one of them" in both.stderr


def test_times_apart_a_resumed_run_is_the_whole_one(whole, tmp_path):
    stop = Then(4, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(config(), tmp_path / "run", progress=False, trackers=[stop])
    resumed = train(folder=tmp_path / "run", resume=True, progress=False)
    expected = [without_times(record) for record in load_run(whole).metrics]
    assert [without_times(record) for record in resumed.metrics] == expected


def without_times(record):
    return {name: value for name, value in record.items() if name not in TIMING_FIELDS}


def test_a_sweep_that_lost_its_end_is_refused(tmp_path):
    folder = create_sweep(Sweep(config(), tuple(vary("seed", [0, 1, 2]))), tmp_path / "sweep").path
    path = folder / "sweep.yaml"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    for words in ("status", "results", "resume", "report", "compare"):
        result = command(words, folder)
        assert result.exit_code == 2
        assert f"{path} is damaged (its checksum is another)" in result.stderr


def test_a_config_error_names_the_fields_path():
    with pytest.raises(ConfigError, match=r"^training: batch_size"):
        override(config(), ["training.batch_size=-1"])
