"""Files of named arrays: what is written is read again, and what is wrong is refused."""

import copy
import pickle
import zipfile
from collections import OrderedDict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from every_layer import CASES
from fake_torch import FakeTorch
from flax import nnx
from fuzz import refusals

from plstm_seq.interop.torch_file import read_torch
from plstm_seq.interop.weights import (
    load_weights,
    named_arrays,
    read_arrays,
    read_metadata,
    save_weights,
    write_arrays,
)

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "number": np.asarray(3, np.int32),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 2)),
}
HALF = {"half": np.asarray(jnp.arange(4, dtype=jnp.bfloat16))}


def assert_same(read, written):
    assert read.keys() == written.keys()
    for name, array in written.items():
        assert read[name].dtype == array.dtype
        np.testing.assert_array_equal(read[name], array)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_what_is_written_is_read(tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    write_arrays(path, ARRAYS)
    assert_same(read_arrays(path), ARRAYS)


def test_safetensors_hold_bfloat16_and_metadata(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_arrays(path, HALF, {"config": "width: 8"})
    assert_same(read_arrays(path), HALF)
    assert read_metadata(path) == {"config": "width: 8"}


@pytest.mark.parametrize("place", [0.1, 0.5, 0.99], ids=["head", "middle", "end"])
@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
def test_damaged_safetensors_are_refused(tmp_path, how, place):
    path = tmp_path / "weights.safetensors"
    write_arrays(path, ARRAYS, {"config": "width: 8"})
    data = bytearray(path.read_bytes())
    if how == "flip":
        data[int(place * len(data))] ^= 1
    else:
        data = data[: int(place * len(data))] if how == "cut" else b""
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"weights.safetensors"):
        read_arrays(path)


def test_npz_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match=r"cannot hold the type of half; take \.safetensors"):
        write_arrays(tmp_path / "weights.npz", HALF)
    with pytest.raises(ValueError, match="cannot hold metadata"):
        write_arrays(tmp_path / "weights.npz", ARRAYS, {"config": ""})


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"the ending is '\.h5'"):
        read_arrays(tmp_path / "weights.h5")
    with pytest.raises(ValueError, match=r"expected \.npz or \.safetensors"):
        write_arrays(tmp_path / "weights.pt", ARRAYS)


def test_a_module_is_saved_and_loaded(tmp_path):
    path = tmp_path / "model.safetensors"
    saved = CASES["post_up_block"].make()
    saved.dropout = type(saved.dropout)(jnp.asarray(0.3))
    save_weights(saved, path)
    loaded = CASES["post_up_block"].make()
    load_weights(loaded, path)
    assert jax.tree.all(jax.tree.map(np.array_equal, nnx.state(loaded), nnx.state(saved)))
    assert "mixer.source.bias" in read_arrays(path)


def test_arrays_that_do_not_fit_are_listed_and_nothing_changes():
    module = CASES["gate"].make()
    arrays = named_arrays(module)
    wrong = {"bias": arrays["bias"][:1], "wait": arrays["weight"]}
    with pytest.raises(ValueError, match="arrays do not fit the module") as error:
        load_weights(module, wrong)
    for line in ("bias: got shape (1, 2, 1), expected (2, 2, 1)", "wait: not in the module"):
        assert line in str(error.value)
    assert "weight: not among the arrays" in str(error.value)
    np.testing.assert_array_equal(module.bias[...], arrays["bias"])


def test_a_state_dict_of_torch_is_read(tmp_path, monkeypatch):
    torch = FakeTorch()
    half = HALF["half"]
    state = OrderedDict(
        {
            "weight": torch.tensor(ARRAYS["a.weight"]),
            "double": torch.parameter(torch.tensor(np.arange(3.0))),
            "count": torch.tensor(np.asarray(3)),
            "flag": torch.tensor(ARRAYS["flag"]),
            "view": torch.tensor(np.arange(10.0), offset=1, shape=(2, 2), strides=(4, 2)),
            "half": torch.tensor(half.view(np.uint16), kind="BFloat16Storage"),
        }
    )
    state._metadata = OrderedDict({"": {"version": 1}})
    torch.save(tmp_path / "model.pt", state, monkeypatch)
    expected = {
        "weight": ARRAYS["a.weight"],
        "double": np.arange(3.0),
        "count": np.asarray(3),
        "flag": ARRAYS["flag"],
        "view": np.array([[1.0, 3.0], [5.0, 7.0]]),
        "half": half,
    }
    assert_same(read_arrays(tmp_path / "model.pt"), expected)
    torch.save(tmp_path / "run.ckpt", {"step": 3, "state_dict": state}, monkeypatch)
    with pytest.raises(ValueError, match="no tensors: step, state_dict; where they"):
        read_arrays(tmp_path / "run.ckpt")
    assert_same(read_torch(tmp_path / "run.ckpt", key="state_dict"), expected)
    with pytest.raises(ValueError, match="there is no 'model'"):
        read_torch(tmp_path / "run.ckpt", key="model")


class Harmful:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": Harmful()}, "names __builtin__.print: only tensors are read"),
        ({"weight": np.zeros(2)}, "only tensors are read; save module.state_dict"),
        ([1, 2], "got list, expected a dictionary of tensors"),
    ],
    ids=["function", "numpy", "list"],
)
def test_a_file_of_something_else_is_refused(tmp_path, monkeypatch, capsys, content, message):
    FakeTorch().save(tmp_path / "model.pt", content, monkeypatch)
    with pytest.raises(ValueError, match=message):
        read_torch(tmp_path / "model.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "wrong",
    [{"shape": (4, 2)}, {"offset": 1}, {"offset": -1}, {"strides": (-3, 1)}],
    ids=["shape", "beyond", "before", "backwards"],
)
def test_a_tensor_outside_of_its_storage_is_refused(tmp_path, monkeypatch, wrong):
    torch = FakeTorch()
    tensor = torch.tensor(np.zeros((2, 3), np.float32), **wrong)
    torch.save(tmp_path / "model.pt", {"weight": tensor}, monkeypatch)
    with pytest.raises(ValueError, match="does not lie in its storage"):
        read_torch(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("shape", "count"), [((10**5, 10**7), 1), ((2**10, 2**10), 100)], ids=["one", "together"]
)
def test_tensors_that_repeat_a_small_storage_without_end_are_refused(
    tmp_path, monkeypatch, shape, count
):
    torch = FakeTorch()
    tensor = torch.tensor(np.zeros((2, 3), np.float32), shape=shape, strides=(0, 0))
    content = {f"weight{number}": tensor for number in range(count)}
    torch.save(tmp_path / "model.pt", content, monkeypatch)
    with pytest.raises(ValueError, match="take more than 16777216 bytes, the file"):
        read_torch(tmp_path / "model.pt")


def write_pickle(path, content, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("model/data.pkl", content)


def test_a_compressed_file_is_refused_before_it_is_read(tmp_path):
    write_pickle(tmp_path / "model.pt", b"\x80\x02}." + bytes(1 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="its members are compressed"):
        read_torch(tmp_path / "model.pt")


def test_members_that_overlap_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        archive.writestr("model/data/0", bytes(1000))
        for number in range(1, 50):  # further entries of the same bytes
            again = copy.copy(archive.getinfo("model/data/0"))
            again.filename = f"model/data/{number}"
            archive.filelist.append(again)
    with pytest.raises(ValueError, match=r"model\.pt: its members overlap"):
        read_torch(path)


DEEP = 200_000
NESTED = {
    "tuples": b"N" + b"\x85" * DEEP,
    "kept_tuples": b"N" + b"\x85\x94" * DEEP,
    "lists": b"]" * DEEP + b"a" * (DEEP - 1),
    "dictionaries": b"}" + b"K\x01}" * DEEP + b"s" * DEEP,
}


@pytest.mark.parametrize("as_name", [True, False])
@pytest.mark.parametrize("nested", NESTED)
def test_what_is_nested_without_end_is_an_error(tmp_path, nested, as_name):
    """Python's own reader ends the process on some of these, without an error."""
    pair = NESTED[nested] + b"N" if as_name else b"K\x01" + NESTED[nested]
    write_pickle(tmp_path / "model.pt", b"\x80\x04}" + pair + b"s.")
    with pytest.raises(ValueError, match=r"model\.pt"):
        read_torch(tmp_path / "model.pt")


def test_any_damage_of_a_torch_file_is_an_error_that_names_it(tmp_path, monkeypatch):
    torch = FakeTorch()
    path = tmp_path / "model.pt"
    torch.save(path, OrderedDict(a=torch.tensor(np.ones((2, 3), np.float32))), monkeypatch)
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    with zipfile.ZipFile(path) as archive:
        content = archive.read("archive/data.pkl")
    draws = np.random.default_rng(0)

    def damaged():
        for number in range(600):
            changed = np.array(whole if number % 2 else np.frombuffer(content, np.uint8))
            places = draws.integers(0, len(changed), draws.integers(1, 4))
            changed[places] = draws.integers(0, 256, len(places))
            if number % 2:
                path.write_bytes(changed.tobytes())
            else:
                write_pickle(path, changed.tobytes())
            yield path

    refused = refusals(read_torch, damaged())
    assert len(refused) > 300
    assert all(path.name in message and len(message) < 700 for message in refused)


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_a_damaged_file_is_refused(tmp_path, ending):
    path = tmp_path / f"arrays.{ending}"
    write_arrays(path, ARRAYS)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=path.name):
        read_arrays(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=path.name):
        read_arrays(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_arrays(path)


def test_what_is_no_archive_of_torch_is_refused(tmp_path):
    (tmp_path / "old.pt").write_bytes(pickle.dumps({}))
    with pytest.raises(ValueError, match=r"PyTorch before 1\.6"):
        read_torch(tmp_path / "old.pt")
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    with pytest.raises(ValueError, match=r"got . files data\.pkl, expected one"):
        read_torch(tmp_path / "arrays.npz")
