"""A rounded run is an ordinary run: evaluated, decoded, probed and resumed as others are."""

import dataclasses
import json
import shutil

import jax
import pytest
from small_run import small_config
from typer.testing import CliRunner

import tasks
from experiments import RunError, decode, evaluate, load_run, override, round_run, train
from experiments.cli import app
from experiments.new_runs import create_run
from experiments.probing import probe
from experiments.run import Run, new_model
from experiments.running import fit_run
from plstm_seq.probing import exact_model, faithful_representation
from plstm_seq.training import Checkpoints, init_state, make_optimizer
from tasks.groups import group


def init_state_of(run):
    """A state that the run's checkpoint fits into."""
    training = run.config.training
    optimizer = make_optimizer(training.optimizer, training.steps)
    return init_state(new_model(run.config), optimizer, jax.random.key(0))[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose model is near a representation of S3, as training finds them."""
    known = group("S3")
    model = exact_model(
        faithful_representation(known.table),
        [known.elements.index(symbol) for symbol in tasks.get("s3_word_problem").vocabulary],
        family="orthogonal",
        noise=0.05,
        implementation="recurrent",
    )
    config = small_config("s3_word_problem", "steps=1")
    folder = tmp_path_factory.mktemp("runs") / "near"
    run = create_run(dataclasses.replace(config, model=model.config), folder)
    optimizer = make_optimizer(config.training.optimizer, 1)
    _, state = init_state(model, optimizer, jax.random.key(0))
    state = dataclasses.replace(state, step=state.step + 1)
    with Checkpoints(run.checkpoints) as checkpoints:
        checkpoints.save(state, {"streak": 0, "record": {}})
    (run.folder / "status.json").write_text('{"status": "finished", "step": 1, "error": null}')
    return run


def test_the_command_and_all_that_reads_a_run(run, tmp_path):
    folder = tmp_path / "rounded"
    arguments = ["round", str(run.folder), "--folder", str(folder)]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    printed = json.loads(result.stdout)
    note = json.loads((folder / "rounded.json").read_text())
    assert {**note, "folder": str(folder)}.items() >= printed.items()
    assert note["run"] == str(run.folder)
    assert (note["step"], note["order"], note["wrong_steps"]) == (1, 6, 0)
    assert note["heads"][0]["before"] > 0.01 > 1e-12 > note["heads"][0]["after"]
    new = load_run(folder)
    assert new.is_trained
    assert new.config.model.mixer.transition.kind == "table"
    assert dataclasses.replace(new.config, model=run.config.model) == run.config
    lengths = [8, 1024]
    measured = [evaluate(one, lengths, num_sequences=16) for one in (load_run(run.folder), new)]
    before, after = (one.evaluation for one in (load_run(run.folder), new))
    assert measured[0] is not None
    at_end = {
        name: frame.filter((frame["metric"] == "sequence") & (frame["length"] == 1024))["value"][0]
        for name, frame in (("before", before), ("after", after))
    }
    assert at_end["before"] < 1 == at_end["after"]
    assert fit_run(new, progress=False).status == "finished"  # nothing is left to train
    assert decode(new, " ".join(tasks.get("s3_word_problem").vocabulary[:3])) is not None
    assert set(probe(new, only=["spectrum", "homomorphism", "sensitivity"], output=tmp_path / "p"))
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_a_rounded_run_has_no_average_and_is_in_the_stage_of_its_run(run, tmp_path):
    words = ["average=0.9", "curriculum=by_accuracy", "stages=[[2,4],[4,2]]", "steps=6"]
    staged = Run(shutil.copytree(run.folder, tmp_path / "staged"), override(run.config, words))
    records = [{"step": step, "stage": 1 + (step > 4)} for step in (2, 4, 6)]
    staged.metrics_path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with Checkpoints(run.checkpoints) as checkpoints:
        kept = checkpoints.restore(init_state_of(run))
    shutil.rmtree(staged.checkpoints)
    state = dataclasses.replace(kept.state, step=kept.state.step * 6)
    with Checkpoints(staged.checkpoints) as checkpoints:
        checkpoints.save(state, {"streak": 0, "record": {}, "standing": [1, 4, 0]})
    new, _ = round_run(staged, tmp_path / "rounded")
    assert new.config.training.average is None
    assert evaluate(new, [8], num_sequences=4) is not None
    before = new.checkpoint.identity
    assert fit_run(new, progress=False).step == 6  # its last stage has ended: nothing is trained
    assert load_run(new.folder).checkpoint.identity == before


def test_what_cannot_be_rounded_leaves_nothing_behind(tmp_path):
    run = train(small_config("s3_word_problem", "steps=1"), tmp_path / "run", progress=False)
    with pytest.raises(RunError, match="cannot be rounded: "):
        round_run(run, tmp_path / "rounded")
    assert not (tmp_path / "rounded").exists()
    convolved = override(run.config, ["mixer.convolution={}"])
    other = Run(tmp_path / "run", convolved)
    other.__dict__["model"] = new_model(convolved)
    with pytest.raises(RunError, match=r"mixer\.convolution: got one, expected None"):
        round_run(other, tmp_path / "rounded")
    assert not (tmp_path / "rounded").exists()
