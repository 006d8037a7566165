"""`plstm-seq tune`: what it times is written, read and merged."""

import json

import jax
import pytest
from typer.testing import CliRunner

import experiments.cli
from experiments import tuning
from plstm_seq.ops.sequence import tuned

TINY = tuning.Shape("float32", 2, 4, 3, 6, 2)


def test_from_measuring_to_the_choice(tmp_path, monkeypatch):
    monkeypatch.setattr(tuned, "FOLDER", tmp_path)
    monkeypatch.setattr(tuning, "CHUNK_SIZES", {"chunkwise": (4, 64)})
    tuned.table_of.cache_clear()
    lines = []
    path = tuning.tune([TINY], announce=lines.append, seconds=0.01)
    assert path == tuned.path_of(jax.devices()[0].device_kind)
    document = json.loads(path.read_text())
    assert (document["device_kind"], document["jax"]) == ("cpu", jax.__version__)

    measured = tuned.ranking(jax.eval_shape(TINY.arguments), jax.devices()[0])
    assert {timing[:2] for timing in measured} == {("chunkwise", 4), ("recurrent", None)}
    assert sorted(measured, key=lambda timing: timing.milliseconds) == list(measured)
    assert lines[0].endswith("compiling")
    assert len(lines[1:]) == len(tuning.plan([TINY]))

    # Another family joins; a file of another version of jax is left behind.
    monkeypatch.setattr(tuning, "candidates", lambda _: [("recurrent", None)])
    tuning.tune([TINY._replace(N=4)], seconds=0.01)
    assert len(tuned.read(path)) == 2
    path.write_text(path.read_text().replace(f'"jax": "{jax.__version__}"', '"jax": "0.0"'))
    tuning.tune([TINY], seconds=0.01)
    assert len(tuned.read(path)) == 1

    # A malformed one is replaced, and says so.
    path.write_text(path.read_text().replace('"milliseconds": ', '"milliseconds": -'))
    tuning.tune([TINY], announce=lines.append, seconds=0.01)
    assert any(line.startswith("replaced: ") for line in lines)
    assert len(tuned.read(path)) == 1
    tuned.table_of.cache_clear()


@pytest.mark.parametrize("shapes", ["quick", "full"])
def test_the_families_of_a_set_differ(shapes):
    families = [
        tuned.family_of(jax.eval_shape(shape.arguments)) for shape in tuning.shapes_named(shapes)
    ]
    assert len(set(families)) == len(families)


def test_command(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning, "shapes_named", lambda _: [TINY])
    monkeypatch.setattr(tuning, "candidates", lambda _: [("recurrent", None)])
    command = CliRunner()
    listed = command.invoke(experiments.cli.app, ["tune", "--dry-run", "--json"])
    assert json.loads(listed.stdout) == ["dtype=float32 J=2 DK=4 DV=3 T=6 N=2: recurrent"]
    assert list(tmp_path.iterdir()) == []
    path = tmp_path / "table.json"
    done = command.invoke(experiments.cli.app, ["tune", "--output", str(path), "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == str(path)
    assert len(tuned.read(path)) == 1
    nowhere = tmp_path / "table.json" / "no_folder.json"
    refused = command.invoke(experiments.cli.app, ["tune", "--output", str(nowhere)])
    assert refused.exit_code == 2
    assert "cannot be written" in refused.stderr


def test_an_unknown_set_of_shapes_is_a_users_mistake():
    result = CliRunner().invoke(experiments.cli.app, ["tune", "--shapes", "some"])
    assert result.exit_code == 2
    assert "quick or full" in result.stderr
