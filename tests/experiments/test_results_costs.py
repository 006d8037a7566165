"""Costs against counts by hand, and sizes that make them equal."""

import jax
import jax.numpy as jnp
import pytest
from small_run import small_config

from experiments import default_config, override
from experiments.costs import flops, flops_per_token, parameters, state_size
from experiments.results import choices, costs_of, matched

WIDTH, HEADS, DK, DV, INNER, LABELS = 8, 2, 2, 3, 32, 2
TINY = (
    "transition=diagonal",
    "transition.dim=1",
    f"width={WIDTH}",
    f"num_heads={HEADS}",
    f"DK={DK}",
    f"DV={DV}",
    "projection_round=1",
    "source={weight: true}",
)


def tiny(*assignments):
    return small_config("parity", *TINY, *assignments)


def kernels(width, inner):
    """Weights that multiply an activation, by hand."""
    query_and_key = 2 * HEADS * DK * width
    value, out = HEADS * DV * width, HEADS * DV * width
    source, transition, mark = 3 * (HEADS * width,)
    up, down = width * inner, inner * width
    head = width * LABELS
    return query_and_key + value + out + source + transition + mark + up + down + head


def test_parameters_by_hand():
    biases = HEADS * (DK + DK + DV) + 3 * HEADS + INNER + WIDTH
    norms = 3 * WIDTH + HEADS * DV
    embedding, passthrough, initial_state = 2 * WIDTH, WIDTH, HEADS * DK * DV
    expected = kernels(WIDTH, INNER) + biases + norms + embedding + passthrough + initial_state
    assert parameters(tiny()) == expected


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ((), HEADS * DK * DV),
        (("num_blocks=3",), 3 * HEADS * DK * DV),
        (("transition.dim=4",), 4 * HEADS * DK * DV),
        (("convolution={kernel_size: 4}",), HEADS * DK * DV + 3 * WIDTH),
    ],
    ids=["one block", "three blocks", "JT=4", "convolution"],
)
def test_state_size_by_hand(assignments, expected):
    assert state_size(tiny(*assignments)) == expected


def test_operations_by_hand():
    """Two a weight, six a number of state, and few for each activation."""
    least = 2 * kernels(WIDTH, INNER) + 6 * HEADS * DK * DV
    activations = 6 * WIDTH + 2 * INNER + 2 * HEADS * (2 * DK + 2 * DV + 3) + LABELS
    assert least < flops_per_token(tiny()) < least + 12 * activations


def test_operations_that_grow_with_the_square_of_the_width_are_exact():
    at = [flops_per_token(tiny(f"width={width}")) for width in (8, 16, 24)]
    # Up and down projection: 2 * (4 width * width + width * 4 width); the head and all others grow
    # linearly and cancel in the second difference.
    assert at[2] - 2 * at[1] + at[0] == pytest.approx(2 * 16 * 8**2, rel=1e-9)


def test_one_result_for_all():
    config = tiny()
    assert costs_of(config) == (parameters(config), state_size(config), flops_per_token(config))


def test_costs_do_not_depend_on_how_the_model_is_run_or_trained():
    other = tiny("implementation=chunkwise", "steps=50", "seed=3", "evaluation.lengths=[7]")
    assert costs_of(other) == costs_of(tiny())


def test_a_kernel_for_gpus_is_not_asked_for_its_operations():
    words = ["task.scale=0.2", "patch_size=20", "position_grid=[2,2]", "stages=[[40,4]]", "width=8"]
    words += ["num_blocks=1", "mixer.num_heads=2"]
    config = override(default_config("arrow_pointing"), words)
    named = override(config, ["mixer.implementation=pallas_gpu"])
    assert costs_of(named) == costs_of(config)


def test_loops_count_at_their_full_length():
    matrix = jax.ShapeDtypeStruct((4, 4), jnp.float32)

    def powers(matrix, count):
        def body(power, _):
            return power @ matrix, None

        return jax.lax.scan(body, matrix, length=count)[0]

    def nested(matrix):
        def body(total, _):
            return total + jax.jit(powers, static_argnums=1)(matrix, 3), None

        return jax.lax.scan(body, matrix, length=5)[0]

    # What the loops count themselves by is within a few operations.
    assert flops(lambda m: powers(m, 7), matrix) == pytest.approx(7 * 2 * 4**3, abs=20)
    assert flops(nested, matrix) == pytest.approx(5 * (3 * 2 * 4**3 + 4**2), abs=60)


def test_state_is_matched_by_the_width_where_it_depends_on_it():
    base = small_config("parity", "DV=null", "width=16", "num_heads=2", "DK=2", "JV=1")
    configs = [override(base, [f"transition.dim={dim}"]) for dim in (1, 2, 4)]
    assert [state_size(config) for config in configs] == [32, 64, 128]
    found = matched(configs, "state")
    assert [config.model.width for config in found] == [16, 8, 4]
    assert {state_size(config) for config in found} == {32}


def test_state_is_matched_by_value_features_where_it_does_not():
    configs = [
        tiny("DV=4", f"transition.dim={dim}", f"seed={seed}") for dim in (1, 2) for seed in (0, 1)
    ]
    lines = []
    found = matched(configs, "state", announce=lines.append)
    assert [config.model.mixer.DV for config in found] == [4, 4, 2, 2]
    assert [config.seed for config in found] == [0, 1, 0, 1]
    assert {config.model.width for config in found} == {WIDTH}
    assert {state_size(config) for config in found} == {16}
    assert lines == [
        "JT=1: DV 4 -> 4, 16 numbers of state (+0.0%)",
        "JT=2: DV 4 -> 2, 16 numbers of state (+0.0%)",
    ]


@pytest.mark.parametrize(
    ("match", "cost"), [("parameters", parameters), ("flops", flops_per_token)]
)
def test_parameters_and_operations_are_matched_within_5_percent(match, cost):
    configs = [tiny("width=40", "projection_round=8", f"transition.dim={dim}") for dim in (1, 3)]
    found = choices(configs, match)
    assert found[0].config == configs[0]
    assert found[1].after < found[1].before == 40
    assert found[1].cost == cost(found[1].config) == pytest.approx(cost(configs[0]), rel=0.05)
    # No neighbour is closer.
    for step in (-1, 1):
        width = found[1].after + step
        other = cost(override(configs[1], [f"width={width}"]))
        assert abs(other - found[1].reference) >= abs(found[1].cost - found[1].reference)


def test_widths_that_the_heads_do_not_divide_are_passed_over():
    base = small_config("parity", "DV=null", "DK=null", "width=24", "num_heads=3")
    configs = [override(base, [f"transition.dim={dim}", "JV=1"]) for dim in (1, 2)]
    widths = [config.model.width for config in matched(configs, "parameters")]
    assert widths[0] == 24
    assert widths[1] % 3 == 0


def test_each_task_has_its_own_reference():
    base = [
        small_config(task, "transition.dim=1", "DV=4") for task in ("parity", "s3_word_problem")
    ]
    configs = [override(config, [f"transition.dim={dim}"]) for config in base for dim in (1, 2)]
    found = matched(configs, "state")
    assert [config.model.mixer.DV for config in found] == [4, 2, 4, 2]
    assert found[0] == configs[0]
    assert found[2] == configs[2]


def test_what_cannot_be_matched_says_what_to_do():
    configs = [tiny("DV=4", f"transition.dim={dim}") for dim in (1, 3)]
    near = r"the reference's 16 numbers of state \(1 makes 12 and 2 makes 24\); a larger"
    with pytest.raises(ValueError, match=f"of JT=3 comes within 5% of {near}"):
        matched(configs, "state")
    with pytest.raises(ValueError, match="one of state, parameters, flops"):
        matched(configs, "size")
    with pytest.raises(
        ValueError, match=r"solves model\.width: leave it out of what the sweep varies"
    ):
        matched([tiny(), tiny("width=16")], "parameters")
    assert matched([], "state") == []
