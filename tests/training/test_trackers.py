import io
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event, SessionLog

from plstm_seq.training import (
    CompositeTracker,
    JsonlTracker,
    ProgressTracker,
    TensorBoardTracker,
    read_jsonl,
)


def record(step):
    return {
        "step": step,
        "loss": 1 / (step + 1),
        "token_accuracy": 0.75,
        "sequence_accuracy": 0.5,
        "seconds": 2.0,
        "tokens_per_second": 12_345.0,
    }


def log(tracker, *steps, start=0, total=100, status="finished"):
    tracker.start(start, total)
    for step in steps:
        tracker.log(record(step))
    tracker.close(status)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 400), st.integers(0, 5))
def test_jsonl_cut_at_any_byte_resumes_to_the_same_file(tmp_path_factory, cut, resumed_after):
    """A file killed at any byte, resumed from any checkpoint whose records are on disk."""
    path = tmp_path_factory.mktemp("run") / "metrics.jsonl"
    log(JsonlTracker(path), *range(1, 6))
    whole = path.read_bytes()
    ends = [0, *(i + 1 for i, byte in enumerate(whole) if byte == ord("\n"))]
    path.write_bytes(whole[: max(cut, ends[resumed_after])])
    log(JsonlTracker(path), *range(resumed_after + 1, 6), start=resumed_after)
    assert path.read_bytes() == whole


def test_jsonl_is_on_disk_before_log_returns_and_torn_lines_are_not_read(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    tracker = JsonlTracker(path)
    tracker.start(0, 10)
    tracker.log(record(5))
    assert read_jsonl(path) == [record(5)]
    tracker.close("finished")
    with path.open("a") as file:
        file.write(json.dumps(record(10))[:17])
    assert read_jsonl(path) == [record(5)]


def test_a_tracker_that_was_not_started_says_so(tmp_path):
    for tracker in (JsonlTracker(tmp_path / "m.jsonl"), TensorBoardTracker(tmp_path)):
        with pytest.raises(RuntimeError, match="log before start"):
            tracker.log(record(1))


def read_events(folder):
    """Event files are records of: length (8 bytes), checksum (4), data, checksum (4)."""
    events = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            events.append(Event.FromString(data[12 : 12 + size]))
            data = data[16 + size :]
    return events


def test_tensorboard_scalars_are_the_records_and_a_resume_purges_later_ones(tmp_path):
    log(TensorBoardTracker(tmp_path / "first"), 10, 20)
    scalars = {
        (event.step, value.tag): value.simple_value
        for event in read_events(tmp_path / "first")
        for value in event.summary.value
    }
    assert scalars == {
        (step, name): pytest.approx(value)
        for step in (10, 20)
        for name, value in record(step).items()
        if name != "step"
    }
    log(TensorBoardTracker(tmp_path / "second"), 20, start=10)
    restarts = [
        event.step
        for event in read_events(tmp_path / "second")
        if event.HasField("session_log") and event.session_log.status == SessionLog.START
    ]
    assert restarts == [11]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_off_a_terminal_is_a_few_plain_lines():
    stream = io.StringIO()
    log(ProgressTracker("s3", stream=stream, plain_lines=4), *range(5, 101, 5), status="solved")
    lines = stream.getvalue().splitlines()
    assert [line.split()[2] for line in lines[:-1]] == [
        "5/100",
        "25/100",
        "50/100",
        "75/100",
        "100/100",
    ]
    assert lines[1] == (
        "s3: step 25/100  loss 0.0385  token 0.750  sequence 0.500  12.3k tokens/s  0:30 left"
    )
    assert lines[-1] == "s3: solved at step 100"


def test_progress_on_a_terminal_shows_loss_accuracy_and_speed(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "140")
    stream = Terminal()
    log(ProgressTracker("s3", stream=stream), 50, start=20)
    shown = stream.getvalue()
    for text in ("50/100", "loss 0.0196", "token 0.750", "sequence 0.500", "12.3k tokens/s"):
        assert text in shown


def test_progress_goes_to_stderr(capsys):
    log(ProgressTracker(), 1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 1/100" in err


def test_composite_hands_everything_to_all(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    log(CompositeTracker([JsonlTracker(path) for path in paths]), 1, 2)
    assert [read_jsonl(path) for path in paths] == [[record(1), record(2)]] * 2
