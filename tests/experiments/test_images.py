"""Training on image files: batches, runs that resume, whole validation sets, recipes."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from flax import nnx
from typer.testing import CliRunner

from experiments import ConfigError, default_config, evaluate, override, recipes, train
from experiments.cli import app
from experiments.commands import choose_config
from experiments.config import from_document, to_document
from experiments.new_runs import starting_model
from experiments.problems import make_task, problem_of
from experiments.run import RunError, load_run
from plstm_seq.models.vision import vision_plstm
from plstm_seq.training import HostSample

pytest.importorskip("grain", reason="the extra vision is not installed")
Image = pytest.importorskip("PIL.Image", reason="the extra vision is not installed")

SMALL = (
    "width=8",
    "num_blocks=1",
    "num_heads=2",
    "patch_size=8",
    "position_grid=[2,2]",
    "training.steps=4",
    "training.batch_size=4",
    "steps_per_dispatch=2",
    "checkpoint_every=2",
    "validate_every=4",
    "warmup_steps=1",
    "stages=[[16,4]]",
    "lengths=[16,24]",
    "evaluation.batch_size=3",
    "three_augment=true",
    "mixup=0.8",
    "cutmix=1.0",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Ten images to train on and seven to measure on, light ones and dark ones."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, counts in (("train", (5, 5)), ("val", (4, 3))):
        for name, count, base in (("dark", counts[0], 0), ("light", counts[1], 128)):
            (folder / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = base + random.integers(0, 128, (20, 24, 3))
                image = Image.fromarray(pixels.astype(np.uint8))
                image.save(folder / part / name / f"{number}.png")
    return str(folder)


def small(data, *words):
    options = [f"task.{word}" for word in SMALL[-3:]]
    return override(default_config("images", data=data), [*SMALL[:-3], *options, *words])


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_batch_is_a_function_of_its_step(data):
    task = make_task("images", data=data, mixup=0.8, cutmix=1.0, three_augment=True, jitter=0.3)
    sample = problem_of(task).sample
    assert isinstance(sample, HostSample)
    in_turn = [sample.on_host([1, 2], step, 4, 16) for step in range(5)]
    assert_same(in_turn[3], sample.on_host([1, 2], 3, 4, 16))
    assert_same(in_turn[1], sample.on_host([1, 2], 1, 4, 16))
    other = sample.on_host([1, 3], 1, 4, 16)
    assert not np.array_equal(in_turn[1].inputs, other.inputs)
    assert in_turn[0].inputs.shape == (4, 16, 16, 3)
    np.testing.assert_allclose(in_turn[0].targets.sum(-1), 1, rtol=1e-6)


def test_labels_of_mixed_images_count_whole_if_asked(data):
    options = {"data": data, "mixup": 0.8}
    shares, whole = (
        problem_of(make_task("images", mixed_labels=kind, **options)).sample.on_host([0], 0, 8, 16)
        for kind in ("share", "whole")
    )
    np.testing.assert_array_equal(whole.targets, (shares.targets > 0).astype(np.float32))
    assert (whole.targets.sum(-1) == 2).any()


def test_every_image_to_measure_on_comes_once(data):
    draw = problem_of(make_task("images", data=data)).draw
    found = [draw.at(start, 3, 16) for start in (0, 3, 6)]
    assert [int(batch.mask.sum()) for batch in found] == [3, 3, 1]
    scored = np.concatenate([batch.targets[batch.mask] for batch in found])
    np.testing.assert_array_equal(scored, [0] * 4 + [1] * 3)
    assert draw(jax.random.key(0), 2, 16).inputs.shape == (2, 16, 16, 3)


def test_cifar_is_read_from_its_binary_files(tmp_path):
    random = np.random.default_rng(0)
    for name, count in (("data_batch_1", 3), ("data_batch_2", 2), ("test_batch", 4)):
        records = random.integers(0, 256, (count, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(count)
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    problem = problem_of(make_task("images", data=str(tmp_path), format="cifar10"))
    assert (len(problem.task.train), problem.examples, problem.task.chance) == (5, 4, 0.1)
    assert problem.sample.on_host([0], 0, 5, 32).inputs.shape == (5, 32, 32, 3)
    assert problem.recommended_model().position_grid == (8, 8)


def test_a_run_resumes_bit_for_bit_and_measures_all_images(data, tmp_path):
    binary = ["loss=binary_cross_entropy", "rule=lamb", "seed=1"]
    config = small(data, *binary)
    assert from_document(to_document(config)) == config
    whole = train(config, tmp_path / "whole", progress=False)
    assert whole.metrics[-1]["validation_accuracy"] * 7 == pytest.approx(
        round(whole.metrics[-1]["validation_accuracy"] * 7)
    )
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "4")
    with pytest.warns(RuntimeWarning, match="4 is corrupt"):
        half = train(folder=tmp_path / "half", resume=True, progress=False)
    assert_same(nnx.state(half.model), nnx.state(whole.model))
    result = evaluate(whole)
    assert {row.length for row in result.rows} == {16, 24}
    assert result.outcomes.scored.shape == (2, 7)
    assert result.outcomes.scored.sum() == 14

    # Another training starts from there, as what the command line makes of it.
    tuned = choose_config(
        "images",
        [f"data={data}", *SMALL[:-3], "drop_path=0.1"],
        None,
        None,
        False,
        str(tmp_path / "whole"),
    )
    assert from_document(to_document(tuned)) == tuned
    start = starting_model(tuned)
    assert_same(nnx.state(start, nnx.Param), nnx.state(whole.model, nnx.Param))
    with pytest.raises(RunError, match=r"cannot start from run .*whole: .* in the checkpoint and"):
        starting_model(override(tuned, ["width=16"]))
    with pytest.raises(RunError, match="no run at"):
        choose_config("parity", [], None, None, False, "nowhere")
    assert load_run(tmp_path / "whole").config.initial_run is None


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_is_the_published_model_with_epochs_as_steps(name, data):
    result = CliRunner().invoke(app, ["train", "--config", name, f"data={data}", "--dry-run"])
    assert result.exit_code == 0, result.output
    config = recipes.read_recipe(name, {"data": data}, batch_size=2)
    size = name.removesuffix("_finetune")[-1].upper()
    published = vision_plstm(size)
    found = dataclasses.replace(config.model, block=published.block, pixels=published.pixels)
    assert found == published
    tuning = name.endswith("finetune")
    epochs = 20 if tuning else 800 if size == "T" else 400
    assert config.training.steps == epochs * 5
    assert config.training.optimizer.warmup_steps == 25
    assert config.training.optimizer.rule == ("adamw" if tuning else "lamb")
    assert config.training.curriculum.longest == (224 if tuning else 192)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "deit3_x", "data=/nowhere"], "No such file; recipes: deit3_b, "),
        (["--config", "deit3_t"], "data=PATH"),
        (["--config", "deit3_t", "data=/nowhere"], "there is no folder /nowhere/train"),
        (["images", "data=/nowhere"], "there is no folder /nowhere/train"),
    ],
)
def test_what_is_not_there_is_refused(words, message):
    result = CliRunner().invoke(app, ["train", *words])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_options_and_models_that_do_not_fit_are_refused(data):
    with pytest.raises(ConfigError, match="format"):
        default_config("images", data=data, format="tar")
    with pytest.raises(ConfigError, match="expected corners or another for images"):
        small(data, "pooling=cells")
