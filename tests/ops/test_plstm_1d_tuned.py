"""The table of what was measured: it decides the order and the chunk size, and breaks no call."""

import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from op_1d import make

from plstm_seq.ops import choice, plstm_1d
from plstm_seq.ops.choice import Implementation
from plstm_seq.ops.sequence import api, tuned
from plstm_seq.ops.sequence.recurrent import recurrent
from plstm_seq.ops.sequence.tuned import Family, Timing


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Writes a table for this device: timings of the family of `make(6)`."""
    monkeypatch.setattr(tuned, "FOLDER", tmp_path)
    tuned.table_of.cache_clear()

    def write(*timings, inputs=None):
        family = tuned.family_of(make(6)[0] if inputs is None else inputs)
        path = tuned.path_of(jax.devices()[0].device_kind)
        tuned.write(path, {family: timings}, device_kind=jax.devices()[0].device_kind)
        tuned.table_of.cache_clear()
        return path

    yield write
    tuned.table_of.cache_clear()


@pytest.fixture
def calls(monkeypatch):
    """Implementations that note (name, chunk size); `declining` is what one cannot do."""
    noted, declining = [], set()

    def implementation(name):
        def run(inputs, state, chunk_size):
            noted.append((name, chunk_size))
            if (name, chunk_size) in declining:
                raise NotImplementedError("not today")
            return recurrent(inputs, state)

        return Implementation(name, run)

    both = choice.table(implementation("first"), implementation("second"))
    monkeypatch.setattr(api, "IMPLEMENTATIONS", both)
    return noted, declining


def test_families_round_up():
    inputs, _ = make(100, batch=(3, 5))
    *_, DK, DV, T, N = tuned.family_of(jax.eval_shape(lambda: inputs))
    assert (DK, DV, T, N) == (8, 4, 128, 16)
    assert [tuned.rounded_up(n) for n in (0, 1, 2, 3, 64, 65)] == [1, 1, 2, 4, 64, 128]
    low = jax.tree.map(lambda x: x.astype(jnp.bfloat16), inputs)
    assert tuned.family_of(low).dtype == "bfloat16"
    assert tuned.family_of(low._replace(mark=low.mark.astype(jnp.float32))).dtype == "bfloat16"
    assert tuned.family_of(low._replace(key=low.key.astype(jnp.float32))).dtype == "float32"


def test_without_a_table_the_order_is_that_of_the_implementations(calls, table):
    plstm_1d(*make(6)[0])
    assert calls[0] == [("first", None)]


@pytest.mark.parametrize(
    ("platform", "batch", "length", "DK", "DV", "order"),
    [
        ("gpu", (600,), 300, 2, 5, "mosaic_gpu_small chunkwise mosaic_gpu recurrent"),
        ("gpu", (4,), 100, 2, 5, "mosaic_gpu_small chunkwise mosaic_gpu recurrent"),
        ("gpu", (4,), 300, 2, 5, "chunkwise mosaic_gpu_small mosaic_gpu recurrent"),
        ("gpu", (4,), 300, 64, 16, "mosaic_gpu chunkwise recurrent mosaic_gpu_small"),
        ("cpu", (4,), 300, 8, 8, "mosaic_gpu_small mosaic_gpu recurrent chunkwise"),
        ("cpu", (4,), 100, 8, 9, "mosaic_gpu_small mosaic_gpu chunkwise recurrent"),
    ],
    ids=["many", "few and short", "few and long", "large states", "small on a CPU", "on a CPU"],
)
def test_without_a_table_what_is_likely_slow_comes_last(
    monkeypatch, table, platform, batch, length, DK, DV, order
):
    device = SimpleNamespace(platform=platform, device_kind="made up")
    monkeypatch.setattr(choice, "default_device", lambda: device)
    noted = []

    def declining(name):
        def run(*_, **__):
            noted.append(name)
            raise NotImplementedError("not today")

        anywhere = dict(check_device=choice.runs_everywhere, platforms=())
        form = api.IMPLEMENTATIONS[name]
        return dataclasses.replace(form, run=run, check=choice.supports_all, **anywhere)

    names = ("mosaic_gpu_small", "mosaic_gpu", "chunkwise", "recurrent")
    monkeypatch.setattr(api, "IMPLEMENTATIONS", {name: declining(name) for name in names})
    inputs, _ = make(length, "J4", batch=batch, DK=DK, DV=DV)
    with pytest.raises(ExceptionGroup):
        plstm_1d(*inputs)
    assert " ".join(noted) == order


def test_the_fastest_measured_comes_first(calls, table):
    table(Timing("first", 8, 3.0), Timing("second", 16, 2.0), Timing("gone", None, 1.0))
    inputs, _ = make(6)
    plstm_1d(*inputs)
    plstm_1d(*inputs, chunk_size=4)
    plstm_1d(*inputs, implementation="first")
    plstm_1d(*make(20)[0])  # another family
    assert calls[0] == [("second", 16), ("second", 4), ("first", 8), ("first", None)]


def test_a_table_with_old_names_is_understood(calls, table, monkeypatch):
    monkeypatch.setattr(choice, "OLD_NAMES", {"of_old": ("elsewhere", "second")})
    table(Timing("of_old", 16, 2.0), Timing("first", 8, 3.0))
    plstm_1d(*make(6)[0])
    assert calls[0] == [("second", 16)]


def test_a_measured_entry_never_makes_a_call_fail(calls, table):
    noted, declining = calls
    table(Timing("second", 16, 2.0), Timing("first", 8, 3.0))
    declining |= {("second", 16), ("first", 8)}
    inputs, _ = make(6)
    plstm_1d(*inputs)
    assert noted == [("second", 16), ("first", 8), ("first", None)]
    noted.clear()
    plstm_1d(*inputs, implementation="second")
    assert noted == [("second", 16), ("second", None)]


def test_a_named_implementation_still_raises_its_own_reason(calls, table):
    calls[1].add(("second", None))
    with pytest.raises(NotImplementedError, match=r"^not today$"):
        plstm_1d(*make(6)[0], implementation="second")


def test_the_chunk_size_reaches_chunkwise(table, monkeypatch):
    sizes = []
    chunkwise = api.IMPLEMENTATIONS["chunkwise"]

    def spy(inputs, state, chunk_size):
        sizes.append(chunk_size)
        return chunkwise.run(inputs, state, chunk_size=chunk_size)

    monkeypatch.setitem(api.IMPLEMENTATIONS, "chunkwise", dataclasses.replace(chunkwise, run=spy))
    table(Timing("chunkwise", 4, 1.0), Timing("chunkwise", 8, 2.0))
    inputs, _ = make(6)
    outputs = [plstm_1d(*inputs, implementation=name) for name in ("chunkwise", "recurrent")]
    assert sizes == [4]
    assert jnp.allclose(*outputs)


def test_a_table_is_read_once(table, monkeypatch):
    table(Timing("recurrent", None, 1.0))
    inputs, _ = make(6)
    device = jax.devices()[0]
    assert tuned.ranking(inputs, device)
    monkeypatch.setattr(tuned, "read", None)
    assert tuned.ranking(inputs, device)[0].implementation == "recurrent"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'entries'"),
        ('{"entries": [{"family": {"JT": 1}, "timings": []}]}', "TypeError"),
        (("chunkwise", 12, 1.0), "chunk_size: got 12, expected a power of two or null"),
        (("chunkwise", 16, -1.0), "milliseconds: got -1.0, expected a number above 0"),
        ((3, 16, 1.0), "implementation: got 3, expected a name"),
    ],
    ids=str,
)
def test_a_malformed_file_says_so(table, text, message):
    if isinstance(text, str):
        path = table()
        path.write_text(text)
    else:
        path = table(Timing(*text))
    with pytest.raises(ValueError, match=f"{path.name} is no table of tuned sizes .*{message}"):
        plstm_1d(*make(6)[0])


def test_what_is_shipped_is_well_formed():
    for path in tuned.FOLDER.glob("*.json"):
        kind = json.loads(path.read_text())["device_kind"]
        assert tuned.path_of(kind) == path
        for timings in tuned.read(path).values():
            assert {timing.implementation for timing in timings} <= set(api.IMPLEMENTATIONS)


def test_written_and_read_back(tmp_path):
    family = Family("bfloat16", 4, 4, 4, 1, 1, 64, 16, 2048, 64)
    table = {family: (Timing("recurrent", None, 0.5), Timing("chunkwise", 16, 1.25))}
    path = tmp_path / "new" / "table.json"
    tuned.write(path, table, device_kind="a device", jax="1")
    assert tuned.read(path) == table
    assert json.loads(path.read_text())["jax"] == "1"
    assert tuned.path_of("NVIDIA H100 80GB HBM3").name == "NVIDIA_H100_80GB_HBM3.json"
