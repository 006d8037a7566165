"""Protocols: each is valid, mistakes in their files are named, and numbers are as defined."""

import dataclasses

import polars
import pytest
import yaml
from flax import nnx

from experiments.config import ConfigError
from experiments.presets import scaled_training
from experiments.protocols import Cell, cells, load, mixers, model, names, read_protocol
from experiments.protocols.cells import planned
from experiments.protocols.protocol import FOLDER, Protocol
from experiments.protocols.values import numbers
from experiments.run import new_model
from plstm_seq.training import OptimizerConfig, Staged, TrainingConfig

PROTOCOLS = {name: load(name) for name in names()}
TASKS = [(name, task) for name, protocol in PROTOCOLS.items() for task in protocol.tasks]


def test_the_named_protocols_are_there():
    assert {
        "a5_length",
        "chomsky_regular",
        "deletang",
        "deltaproduct_groups",
        "error_control",
        "fp_rnn",
        "grazzi_s5",
        "mamba3_curriculum",
        "merrill_depth",
        "pd_groups",
        "slice_regular",
    } <= set(names())


@pytest.mark.parametrize(("name", "task"), TASKS, ids=lambda value: value)
def test_every_task_of_every_protocol_expands(name, task):
    protocol = PROTOCOLS[name]
    config = Cell(protocol, task, model(protocol, "plstm"), scale=0.01).config
    made = config.task.make()
    curriculum = config.training.curriculum
    assert curriculum.longest <= 128 or name in ("mamba3_curriculum", "arrow_pointing")
    full = Cell(protocol, task, model(protocol, "plstm")).config
    assert config.training.steps == pytest.approx(full.training.steps / 100, abs=1)
    assert config.evaluation == full.evaluation
    assert made.chance < 1


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_model_of_every_protocol_is_valid(name):
    protocol = PROTOCOLS[name]
    task = next(iter(protocol.tasks))
    for text in dict.fromkeys([*mixers(protocol), *protocol.models]):
        config = Cell(protocol, task, model(protocol, text)).config
        if text in protocol.models or text in ("plstm", "lstm"):
            nnx.eval_shape(lambda config=config: new_model(config))  # sizes fit each other


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "merrill_depth"])
def test_seeds_and_rates_are_members_of_one_program(name):
    protocol = PROTOCOLS[name]
    (cell,) = cells(protocol, tasks=[next(iter(protocol.tasks))], scale=0.01)
    expected = len(protocol.seeds) * len(protocol.rates)
    plan = planned(cell)
    assert (plan["members"], plan["programs"]) == (expected, 1)


def test_scale_multiplies_steps_warm_up_and_stages_alone():
    training = TrainingConfig(
        steps=1000,
        optimizer=OptimizerConfig(warmup_steps=100),
        curriculum=Staged(stages=((4, 200), (8, 30), (40, 700))),
    )
    scaled = scaled_training(training, 0.01)
    assert (scaled.steps, scaled.optimizer.warmup_steps) == (10, 1)
    assert scaled.curriculum == Staged(stages=((4, 2), (8, 1), (40, 7)))
    assert (
        dataclasses.replace(
            scaled, steps=1000, optimizer=training.optimizer, curriculum=training.curriculum
        )
        == training
    )
    assert scaled_training(training, 1) == training
    assert scaled_training(training, 1e-6).steps == 3


def test_fields_of_a_model_and_of_a_run():
    protocol = PROTOCOLS["chomsky_regular"]
    made = model(protocol, "plstm,transition.dim=3", ["width=16", "evaluation.lengths=[4, 5]"])
    assert made.text == "plstm,transition.dim=3,width=16,evaluation.lengths=[4, 5]"
    cell = Cell(protocol, "parity", made, 0.5, seeds=(0,), rates=(1e-3, 2e-3))
    assert cell.config.model.mixer.transition.dim == 3
    assert cell.config.model.width == 16
    assert cell.config.model.num_blocks == 2  # of the task
    assert cell.config.evaluation.lengths == (4, 5)
    assert cell.config.evaluation.mixture == (39, 255)  # the answer is not counted here
    assert cell.config.training.curriculum.minimum == 2
    parts = cell.folder.parts
    assert parts[:3] == ("sweeps", "chomsky_regular", "scale-0.5")
    assert parts[3].startswith("plstm,transition.dim=3,width=16,evaluation.lengths=-4,-5-")
    assert parts[4] == "parity,seeds=0,rates=0.001+0.002"
    inner = model(protocol, "plstm,evaluation.lengths=[4, 5],width=8")
    assert [path[-1] for path, _ in inner.words] == ["lengths", "width"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": ["lstn"]}, "has no model 'lstn'; nearest: lstm"),
        ({"models": ["lstm,width"]}, "'width': expected field=value"),
        ({"tasks": ["partiy"]}, "has no task 'partiy'; nearest: parity"),
        ({"words": ["widht=3"]}, "unknown field 'widht'"),
        ({"scale": 0.0}, "scale: got 0, expected a number above 0"),
        ({"scale": 2.0}, "scale: got 2, expected a number above 0, up to 1"),
    ],
    ids=["model", "field without value", "task", "word", "no scale", "scale above 1"],
)
def test_mistakes_of_a_run_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        cells(PROTOCOLS["chomsky_regular"], **options)


def changed(tmp_path, change):
    document = yaml.safe_load((FOLDER / "chomsky_regular.yaml").read_text())
    change(document)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(seed=[1]), "unknown field 'seed'; nearest: seeds"),
        (lambda d: d.pop("seeds"), "seeds: Field required"),
        (lambda d: d["tasks"]["parity"].update(option={}), "unknown field 'tasks.parity.option'"),
        (lambda d: d["tasks"]["parity"].pop("chance"), "tasks.parity.chance: needed"),
        (lambda d: d["config"].pop("evaluation.mixture"), "config.evaluation.mixture: needed"),
        (lambda d: d["measure"].update(metric="all"), "measure.metric: Input should be"),
        (
            lambda d: d["published"][0]["values"].update(partiy=0.5),
            "published.0.values.partiy: no such task; nearest: parity",
        ),
        (
            lambda d: d["published"][0]["values"].update(parity={"mean": 0.5}),
            "published.0.values.parity: best, mad, median may be given",
        ),
    ],
    ids=["field", "missing", "task field", "chance", "mixture", "metric", "column", "statistic"],
)
def test_a_wrong_file_is_refused_with_file_and_field(tmp_path, change, message):
    path = changed(tmp_path, change)
    with pytest.raises(ConfigError) as caught:
        read_protocol(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["tasks"]["parity"].update(name="partiy"),
            "mine.yaml: tasks.parity: unknown task 'partiy'; nearest: parity",
        ),
        (
            lambda d: d["tasks"]["parity"]["options"].update(label=1),
            "mine.yaml: tasks.parity: task 'parity' has no option 'label'",
        ),
        (lambda d: d["config"].update(stepz=3), "mine.yaml: config: unknown field 'stepz'"),
        (lambda d: d["model"].update(wdth=3), "mine.yaml: model: unknown field 'wdth'"),
        (
            lambda d: d["tasks"]["parity"]["fields"].update(b2=3),
            "mine.yaml: tasks.parity.fields: training.optimizer: b2: got",
        ),
        (
            lambda d: d["models"].update(plstm={"mixer": "lstn"}),
            "mine.yaml: models.plstm.mixer: unknown kind 'lstn'; nearest: lstm",
        ),
        (
            lambda d: d["models"].update(plstm={"JT": 3}),
            "mine.yaml: models.plstm: unknown field 'JT'",
        ),
        (lambda d: d.update(vary={"stepz": [3]}), "mine.yaml: vary: unknown field 'stepz'"),
    ],
    ids=["task", "option", "field", "size", "value", "mixer", "model field", "varied field"],
)
def test_wrong_names_in_a_file_are_refused_with_file_and_field(tmp_path, change, message):
    protocol = read_protocol(changed(tmp_path, change))
    with pytest.raises(ConfigError) as caught:
        cells(protocol, tasks=["parity"])
    assert message in str(caught.value)


def frame(rows):
    """Rows as `gather` gives them: (rate, seed, blocks, trained, metric, length, value)."""
    columns = (
        "training.optimizer.learning_rate",
        "seed",
        "model.num_blocks",
        "trained_length",
        "metric",
        "length",
        "value",
    )
    table = polars.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)
    names = polars.concat_str(
        [polars.col(name).cast(polars.String) for name in columns[:4]], separator=","
    )
    longest = polars.col("trained_length").alias("training.curriculum.maximum")
    return table.with_columns(names.alias("member"), longest)


def with_measure(name, **changes) -> Protocol:
    protocol = PROTOCOLS[name]
    return dataclasses.replace(protocol, measure=dataclasses.replace(protocol.measure, **changes))


def test_statistics_are_taken_at_the_rate_where_they_are_highest():
    values = {1e-3: [0.5, 0.6, 1.0], 1e-2: [0.9, 0.9, 0.8]}
    rows = [
        (rate, seed, 2, 39, "mixture_last", 255, value)
        for rate, own in values.items()
        for seed, value in enumerate(own)
    ]
    rows.append((1e-4, 0, 2, 39, None, None, None))  # not evaluated
    found = numbers(
        with_measure("chomsky_regular", statistics=("best", "median", "mean")),
        "parity",
        frame(rows),
    )
    assert [number.statistic for number in found] == ["best", "median", "mean"]
    best, median, mean = found
    assert (best.value, best.rate, best.n, best.members) == (1.0, 1e-3, 6, 7)
    assert median[2:5] == (pytest.approx(0.8), pytest.approx(0.0), 1e-2)
    assert mean.value == pytest.approx(2 * (2.6 / 3 - 0.5))
    assert mean.spread == pytest.approx(2 * 0.1 / 3**0.5)


def test_lengths_are_the_published_ones():
    rows = [(1e-3, 0, 1, 32, "sequence", length, 1 / length) for length in (32, 500)]
    found = {n.length: n.value for n in numbers(PROTOCOLS["grazzi_s5"], "all", frame(rows))}
    assert found[32] == 1 / 32
    assert found[500] == 1 / 500
    assert found[64] is None


def test_a_horizon_ends_at_the_first_failure():
    values = {60: 0.99, 100: 0.95, 200: 0.89, 300: 0.95}
    rows = [(1e-3, 0, 1, 60, "last", length, value) for length, value in values.items()]
    (found,) = numbers(PROTOCOLS["error_control"], "Z2", frame(rows))
    assert found.value == 100


def test_a_depth_is_the_fewest_blocks_that_suffice():
    values = {(1, 2): 0.95, (1, 3): 0.5, (2, 3): 0.91, (4, 3): 1.0, (4, 9): 0.3}
    rows = [
        (1e-4, seed, blocks, length, "sequence", length, value * (1 if seed else 0.5))
        for (blocks, length), value in values.items()
        for seed in (0, 1)
    ]
    found = numbers(PROTOCOLS["merrill_depth"], "A5", frame(rows))
    assert [(number.length, number.value) for number in found] == [(2, 1), (3, 2), (9, None)]
    assert [number.members for number in found] == [2, 6, 2]
