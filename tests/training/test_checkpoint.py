import json
import shutil
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toy import ToyModel

from plstm_seq.training import (
    Checkpoints,
    CorruptCheckpointError,
    OptimizerConfig,
    TrainState,
    init_state,
    load_model,
    load_parameters,
    make_optimizer,
)
from plstm_seq.training.disk import quiet_threads
from plstm_seq.training.leaves import named_leaves
from plstm_seq.training.manifest import check_manifest


def make_state(seed=0, step=0, width=4):
    model = ToyModel(width=width, rngs=nnx.Rngs(seed))
    model.noise = nnx.Rngs(seed)  # variables that are no parameters, typed keys among them
    optimizer = make_optimizer(OptimizerConfig(), 10)
    state = init_state(model, optimizer, jax.random.key(seed))[1]
    return TrainState(jnp.int32(step), state.key, state.parameters, state.rest, state.optimizer)


def save(folder, *steps, keep=3):
    with Checkpoints(folder, keep=keep) as checkpoints:
        for step in steps:
            checkpoints.save(make_state(seed=step, step=step), {"streak": step})


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    one, other = named_leaves(one), named_leaves(other)
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def forget(folder, step):
    """As if a process had been killed before it noted that step."""
    path = folder / "sealed.json"
    known = json.loads(path.read_text())
    del known[str(step)]
    path.write_text(json.dumps(known))


def largest_file(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def truncate(folder):
    path = largest_file(folder / "model" / "d")
    path.write_bytes(path.read_bytes()[:-20])


def flip_a_bit(folder):
    path = largest_file(folder / "model" / "d")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def delete_the_notes(folder):
    (folder / "meta" / "metadata").unlink()


def change_the_notes(folder):
    path = folder / "meta" / "metadata"
    path.write_text(path.read_text().replace('"streak": 3', '"streak": 9'))
    assert '"streak": 9' in path.read_text()


def damage_the_seal(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:-5])


DAMAGE = [
    truncate,
    flip_a_bit,
    delete_the_notes,
    change_the_notes,
    damage_the_seal,
]


def test_what_is_restored_is_what_was_saved_bit_for_bit(tmp_path):
    state = make_state(seed=7, step=12)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(state) is None
        checkpoints.save(state, {"streak": 2, "record": {"loss": 0.1}})
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(make_state(seed=1))
    assert restored.step == 12
    assert restored.notes == {"streak": 2, "record": {"loss": 0.1}}
    assert_same(restored.state, state)


def test_only_the_latest_are_kept(tmp_path):
    save(tmp_path, 1, 2, 3, 10, keep=2)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [3, 10]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_corrupt_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    save(tmp_path, 1, 2, 3)
    damage(tmp_path / "3")
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(RuntimeWarning, match=r"3 is corrupt .*trying the one before"):
            restored = checkpoints.restore(make_state())
        assert_same(restored.state, make_state(seed=2, step=2))
        assert restored.notes == {"streak": 2}
        # A resumed run sets the corrupt one aside and can save that step again.
        checkpoints.discard_after(2)
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(make_state(seed=3, step=3), {})
        assert checkpoints.restore(make_state()).step == 3
    assert (tmp_path / "corrupt-3").is_dir()


def test_a_checkpoint_cut_off_before_it_was_sealed_does_not_count(tmp_path):
    save(tmp_path, 1, 2)
    (tmp_path / "2" / "manifest.json").unlink()
    forget(tmp_path, 2)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [1]
        assert checkpoints.restore(make_state()).checkpoint.passed_over == ()
    save(tmp_path, 2)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [1, 2]


@pytest.mark.parametrize(
    ("loss", "listed"),  # without the list nobody can know of the other losses
    [("manifest", True), ("folder", True), ("another_manifest", True), ("manifest", False)],
)
def test_a_checkpoint_that_lost_its_seal_is_damaged_and_kept(tmp_path, loss, listed):
    save(tmp_path, 1, 2)
    if not listed:
        (tmp_path / "sealed.json").unlink()
    if loss == "manifest":
        (tmp_path / "2" / "manifest.json").unlink()
    elif loss == "folder":
        shutil.rmtree(tmp_path / "2")
    else:  # files and manifest of another checkpoint
        shutil.rmtree(tmp_path / "2")
        shutil.copytree(tmp_path / "1", tmp_path / "2")
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path) as checkpoints:
        assert sorted(tmp_path.rglob("*")) == before
        with pytest.warns(RuntimeWarning, match=r"2 is corrupt .*trying the one before"):
            restored = checkpoints.restore(make_state())
        assert restored.step == 1
        assert "is corrupt" in restored.checkpoint.passed_over[0]
        checkpoints.discard_after(1)
        checkpoints.save(make_state(seed=2, step=2), {})
        assert checkpoints.restore(make_state()).step == 2
    assert (tmp_path / "corrupt-2").exists() == (loss != "folder")


def test_an_untrained_checkpoint_is_no_replacement(tmp_path):
    save(tmp_path, 0, 5)
    flip_a_bit(tmp_path / "5")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CorruptCheckpointError, match=r"5 is corrupt .*step 0, which is not trained"),
    ):
        checkpoints.restore(make_state())


def test_a_damaged_list_is_named(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "sealed.json").write_text('{"1": ')
    with pytest.raises(CorruptCheckpointError, match=r"sealed.json is damaged"):
        load_model(ToyModel(width=4, rngs=nnx.Rngs(0)), tmp_path)
    with pytest.raises(CorruptCheckpointError, match=r"sealed\.json"):
        Checkpoints(tmp_path)


def test_an_identity_stands_for_one_checkpoint(tmp_path):
    save(tmp_path, 1, 2)
    found = set()
    for folder in (tmp_path / "1", tmp_path / "2"):
        found.add(check_manifest(folder))
    assert len(found) == 2
    assert set(json.loads((tmp_path / "sealed.json").read_text()).values()) == found


def test_a_removed_folder_is_not_written_into(tmp_path):
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(make_state(step=1), {})
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(FileNotFoundError, match="was removed while"):
            checkpoints.save(make_state(step=2), {})
        assert not (tmp_path / "run").exists()
        (tmp_path / "run").mkdir()
        with pytest.raises(FileNotFoundError, match="was removed while"):
            checkpoints.save(make_state(step=2), {})


def test_nothing_readable_says_so(tmp_path):
    save(tmp_path, 1, 2)
    truncate(tmp_path / "1")
    flip_a_bit(tmp_path / "2")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(CorruptCheckpointError, match=r"none of the 2 .*2 is corrupt") as caught,
    ):
        checkpoints.restore(make_state())
    assert len(caught.value.__cause__.exceptions) == 2


def test_another_model_is_an_error_that_names_the_difference(tmp_path):
    save(tmp_path, 1)
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(ValueError, match=r"embedding.embedding is float32\[2, 4\].* and float32"),
    ):
        checkpoints.restore(make_state(width=5))


def test_load_model_reads_the_model_alone_and_writes_nothing(tmp_path):
    state = make_state(seed=5, step=5)
    save(tmp_path, 5)
    before = sorted(tmp_path.rglob("*"))
    model = ToyModel(width=4, rngs=nnx.Rngs(1))
    model.noise = nnx.Rngs(1)
    assert load_model(model, tmp_path).step == 5
    assert_same(nnx.state(model, nnx.Param), state.parameters)
    assert sorted(tmp_path.rglob("*")) == before


def test_reading_creates_nothing_and_refuses_to_write(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(ToyModel(rngs=nnx.Rngs(0)), tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        load_model(ToyModel(rngs=nnx.Rngs(0)), tmp_path)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        with pytest.raises(PermissionError):
            checkpoints.save(make_state(), {})
        with pytest.raises(PermissionError):
            checkpoints.discard_after(0)


def test_one_checkpoint_is_not_enough(tmp_path):
    with pytest.raises(ValueError, match="keep: got 1, expected at least 2"):
        Checkpoints(tmp_path, keep=1)


class Rated(ToyModel):
    """With a number that is no parameter."""

    def __init__(self, rate, width=4, *, rngs):
        super().__init__(width=width, rngs=rngs)
        self.rate = None if rate is None else nnx.Variable(jnp.float32(rate))


def save_model(folder, model):
    optimizer = make_optimizer(OptimizerConfig(), 10)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(init_state(model, optimizer, jax.random.key(0))[1], {})


@pytest.mark.parametrize("rate", [None, 0.5], ids=["without_a_rate", "with_a_rate"])
def test_parameters_alone_are_read_into_a_model_of_other_rates(tmp_path, rate):
    trained = Rated(0.1, rngs=nnx.Rngs(0))
    save_model(tmp_path, trained)
    model = Rated(rate, rngs=nnx.Rngs(1))
    assert load_parameters(model, tmp_path).step == 0
    assert_same(nnx.state(model, nnx.Param), nnx.state(trained, nnx.Param))
    assert rate is None or float(model.rate[...]) == rate


def test_parameters_of_other_shapes_or_names_are_refused_by_name(tmp_path):
    save_model(tmp_path, Rated(0.1, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=r"embedding.* is float32\[2, 4\] in the checkpoint and"):
        load_parameters(Rated(0.1, width=8, rngs=nnx.Rngs(0)), tmp_path)
    less = Rated(0.1, rngs=nnx.Rngs(0))
    del less.head
    with pytest.raises(
        ValueError, match=r"head.bias is float32\[2\] in the checkpoint and missing"
    ):
        load_parameters(less, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder|is not a folder"):
        load_parameters(less, tmp_path / "nowhere")


class RaisesWhenCollected(NamedTuple):
    error: Exception

    def __del__(self):
        raise self.error


def test_writes_that_end_after_another_failed_print_nothing(monkeypatch):
    """As tensorstore's threads do: an error that nothing can raise, when the event loop is gone."""
    shown = []
    monkeypatch.setattr(
        sys, "unraisablehook", lambda unraisable: shown.append(repr(unraisable.exc_value))
    )
    for _ in range(2):
        with pytest.raises(OSError, match="full"), quiet_threads():
            raise OSError("full")
    for error in (RuntimeError("Event loop is closed"), RuntimeError("another"), KeyError(1)):
        RaisesWhenCollected(error)
    assert shown == ["RuntimeError('another')", "KeyError(1)"]
