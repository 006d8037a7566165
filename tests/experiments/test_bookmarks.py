"""An evaluation that is stopped or killed goes on where it was, to the same rows."""

import os
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from polars.testing import assert_frame_equal
from small_run import small_config
from typer.testing import CliRunner

from experiments import bookmarks, evaluate, load_run, train
from experiments.bookmarks import UNFINISHED, Bookmarks, PassBookmark
from experiments.cli import app
from plstm_seq.evaluation import Place, outcomes

REPOSITORY = Path(__file__).parents[2]
SNAP_EVERY = 2
ASSIGNMENTS = ("transition.dim=2", "steps=2", "steps_per_dispatch=2", "checkpoint_every=2",
               "evaluation.lengths=[3, 9, 14]")  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that was evaluated without a break; its states are of floats that depend on all."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run = train(small_config("s3_word_problem", *ASSIGNMENTS), folder, progress=False)
    evaluate(run, snap_every=SNAP_EVERY)
    assert not (folder / UNFINISHED).exists()
    return run


@pytest.fixture
def run(whole, tmp_path):
    """The same run, not evaluated."""
    folder = shutil.copytree(whole.folder, tmp_path / whole.name)
    (folder / "evaluation.parquet").unlink()
    return load_run(folder)


class Stop:
    """Ctrl-C at a place."""

    def __init__(self, monkeypatch, at):
        self.noted, self.at, self.put = 0, at, PassBookmark.put
        monkeypatch.setattr(PassBookmark, "put", lambda *arguments: self(*arguments))

    def __call__(self, *arguments):
        self.put(*arguments)
        self.noted += 1
        if self.noted == self.at:
            raise KeyboardInterrupt


def stopped(run, monkeypatch, at, **options):
    with monkeypatch.context() as patch:
        Stop(patch, at)
        with pytest.raises(KeyboardInterrupt):
            evaluate(run, **{"snap_every": SNAP_EVERY, **options})
    assert (run.folder / UNFINISHED).exists()


def places_of(run, monkeypatch, **options):
    """How many places an evaluation notes."""
    with monkeypatch.context() as patch:
        counted = Stop(patch, None)
        evaluate(run, **{"snap_every": SNAP_EVERY, **options})
    return counted.noted


@pytest.mark.slow
def test_stopped_anywhere_it_goes_on_to_the_same_rows(run, whole, monkeypatch):
    # Of 8 places in the first pass and 14 in the second.
    monkeypatch.setattr(outcomes, "_chunks_at_once", lambda *_: 1)
    for more in (1, 2, 1, 3, 2, 7, 4):
        stopped(run, monkeypatch, more)
    left = places_of(run, monkeypatch)
    assert left == 2
    assert_frame_equal(run.evaluations, whole.evaluations)
    assert not (run.folder / UNFINISHED).exists()
    assert places_of(run, monkeypatch) == 22


@pytest.mark.slow
@pytest.mark.parametrize("moment", [2, 9, "remove"])
def test_killed_it_goes_on_to_the_same_rows(run, whole, monkeypatch, moment):
    script = REPOSITORY / "tests" / "support" / "evaluation_process.py"
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests" / "support")])
    done = subprocess.run(
        [sys.executable, str(script), str(run.folder), str(SNAP_EVERY), str(moment)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (run.folder / UNFINISHED).exists()
    assert run.evaluation_path.exists() == (moment == "remove")
    left = places_of(run, monkeypatch)
    assert_frame_equal(run.evaluations, whole.evaluations)
    assert not list(run.folder.glob(f"*{UNFINISHED}*"))
    assert left == 0 if moment == "remove" else 0 < left < places_of(run, monkeypatch)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_command_and_the_same_one_goes_on(run, whole, monkeypatch, number):
    with monkeypatch.context() as patch:
        put = PassBookmark.put

        def told(*arguments):
            put(*arguments)
            os.kill(os.getpid(), number)

        patch.setattr(PassBookmark, "put", told)
        words = ["evaluate", str(run.folder), "--snap", str(SNAP_EVERY), "--json"]
        result = CliRunner().invoke(app, words)
    assert result.exit_code == 130, result.output
    assert result.stderr == "stopped; the same command goes on from there\n"
    assert not result.stdout
    assert CliRunner().invoke(app, words).exit_code == 0
    assert_frame_equal(run.evaluations, whole.evaluations)


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text", "json", "folder"])
def test_a_damaged_file_is_named_and_not_used(run, whole, monkeypatch, damage):
    stopped(run, monkeypatch, 5)
    path = run.folder / UNFINISHED
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    wrong = {"flip": bytes(data), "cut": path.read_bytes()[:-9], "empty": b"", "text": b"a\nb\nc"}
    wrong["json"] = sealed(b'["evaluation"]\n')
    if damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(wrong[damage])
    with pytest.warns(RuntimeWarning, match=rf"{path} .*: this one begins anew"):
        evaluate(run, snap_every=SNAP_EVERY)
    assert_frame_equal(run.evaluations, whole.evaluations)
    assert not path.is_file()


def sealed(body):
    return bookmarks.text_checksum(body).encode() + b"\n" + body


@pytest.mark.parametrize(
    ("option", "value"), [("lengths", [3, 9]), ("num_sequences", 5), ("snap_every", 3)]
)
def test_another_evaluation_begins_anew_and_leaves_the_file(run, whole, monkeypatch, option, value):
    stopped(run, monkeypatch, 5)
    path = run.folder / UNFINISHED
    kept = path.read_bytes()
    with pytest.warns(RuntimeWarning, match=rf"{path} is of another evaluation \({option}\)"):
        evaluate(run, **{"snap_every": SNAP_EVERY, option: value})
    assert path.read_bytes() == kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(run, snap_every=SNAP_EVERY)
    same = {"num_sequences": 6, "snap_every": SNAP_EVERY}
    rows = run.evaluations.filter(metric="snapped_token", **same)
    assert_frame_equal(rows, whole.evaluations.filter(metric="snapped_token", **same))


@pytest.mark.parametrize("field", ["checkpoint", "config", "device", "jax", "float64"])
def test_places_of_another_model_or_machine_are_not_used(run, monkeypatch, field):
    stopped(run, monkeypatch, 5)
    marks = Bookmarks(run)
    marks.evaluation[field] = "another"
    with pytest.warns(RuntimeWarning, match=rf"of another evaluation \(.*{field}"), marks:
        pass
    marks.remove()
    still_of_use = field not in ("checkpoint", "config")
    assert marks.path.exists() == still_of_use


def test_every_type_of_state_is_kept_to_the_bit(run, monkeypatch):
    state = {
        "bfloat16": jnp.array([1.5, -0.1, jnp.nan], jnp.bfloat16),
        "float32": jnp.array(0.1, jnp.float32),
        "key": jax.random.key(3),
        "bool": jnp.array([[True], [False]]),
        "empty": jnp.zeros((0, 3), jnp.int8),
    }
    place = Place(np.array(1), np.array(2), state, np.arange(3))
    asked = {"lengths": [1]}
    with suppress(KeyboardInterrupt), Bookmarks(run, **asked) as marks:
        marks.of("first").put(place, 1, 2)
        raise KeyboardInterrupt
    start = jax.tree.map(lambda leaf: leaf, place)
    with Bookmarks(run, **asked) as marks:
        found = marks.of("first").find(start)
        other = marks.of("second").find(start)
    assert other is start
    for one, two in zip(jax.tree.leaves(place), jax.tree.leaves(found), strict=True):
        assert one.dtype == two.dtype
        if one is state["key"]:
            one, two = map(jax.random.key_data, (one, two))
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()
    wider = start._replace(found=np.arange(4))
    with Bookmarks(run, **asked) as marks, pytest.warns(RuntimeWarning, match="another program"):
        assert marks.of("first").find(wider) is wider


def test_a_full_disk_does_not_end_an_evaluation(run, whole, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bookmarks, "write_whole", full)
    monkeypatch.setattr(bookmarks, "SECONDS_BETWEEN", 0.0)
    evaluate(run, snap_every=SNAP_EVERY)
    assert_frame_equal(run.evaluations, whole.evaluations)


def test_only_what_is_on_the_disk_is_said_to_be_kept(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bookmarks, "write_whole", full)
    Stop(monkeypatch, 2)
    result = CliRunner().invoke(app, ["evaluate", str(run.folder)])
    assert result.exit_code == 130
    assert result.stderr == "stopped; nothing is kept of it\n"
