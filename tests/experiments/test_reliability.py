"""What docs/reliability.md promises of runs and sweeps: their folders, processes and signals."""

import os
import shutil
import signal
import time

import pytest
from attacked import SLOW, Then, command, config, start, wait_for

from experiments import (
    RunError,
    load_run,
    override,
    read_config,
    train,
    write_config,
)
from experiments.config import to_document
from experiments.files import seal
from experiments.results import gather
from experiments.run import RunStatus
from experiments.sweeps import Sweep, create_sweep, run_sweep, vary
from plstm_seq.training import DamagedRecordsError, read_jsonl

pytestmark = pytest.mark.slow


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
