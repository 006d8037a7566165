import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from toy import ToyModel

from plstm_seq.training import OptimizerConfig, is_decayed, make_optimizer, with_hyperparameters
from plstm_seq.training.leaves import named_leaves
from plstm_seq.training.optimizer import make_schedule

PARAMETERS = {"kernel": jnp.linspace(-1, 1, 6).reshape(2, 3), "bias": jnp.ones((2, 3))}


def gradients(step, parameters=PARAMETERS):
    return jax.tree.map(lambda p: jnp.sin(p + step), parameters)


def run(transformation, state, steps=5, parameters=PARAMETERS):
    def step(index, carry):
        current, state = carry
        updates, state = transformation.update(gradients(index, parameters), state, current)
        return optax.apply_updates(current, updates), state

    return jax.jit(lambda s: jax.lax.fori_loop(0, steps, step, (parameters, s))[0])(state)


MOMENTS = {"adamw": optax.scale_by_adam, "amsgrad": optax.scale_by_amsgrad}


@pytest.mark.parametrize("rule", MOMENTS)
def test_chain_is_that_of_optax_with_its_own_schedule(rule):
    config = OptimizerConfig(
        rule=rule,
        learning_rate=0.1,
        weight_decay=0.3,
        warmup_steps=2,
        clip_norm=0.5,
        final_fraction=0.2,
    )
    ours = make_optimizer(config, 10).transformation

    def rate(step):
        cosine = optax.cosine_decay_schedule(0.1, 8, alpha=0.2)
        return jnp.where(step < 2, 0.1 * (step + 1) / 2, cosine(step - 2))

    theirs = optax.chain(
        optax.clip_by_global_norm(0.5),
        MOMENTS[rule](b2=config.b2),
        optax.add_decayed_weights(0.3, {"kernel": True, "bias": False}),
        optax.scale_by_learning_rate(rate),
    )
    expected = run(theirs, theirs.init(PARAMETERS))
    # The rate and the decay are float32 leaves, whatever the parameters are.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
        run(ours, ours.init(PARAMETERS)),
        expected,
    )


def test_lamb_is_optax_lamb_where_weights_decay_and_adamw_elsewhere():
    config = OptimizerConfig(
        rule="lamb", learning_rate=0.1, weight_decay=0.3, warmup_steps=0, schedule="constant"
    )
    ours = make_optimizer(config, 10).transformation
    names = {"kernel": "lamb", "table": "lamb", "bias": "adam"}
    theirs = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.partition(
            {
                "lamb": optax.lamb(0.1, b2=config.b2, eps=config.eps, weight_decay=0.3),
                "adam": optax.adam(0.1, b2=config.b2, eps=config.eps),
            },
            names,
        ),
    )
    # Two that decay, of different norms: the ratio is not that of both together.
    parameters = {**PARAMETERS, "table": 5 * PARAMETERS["kernel"]}
    expected = run(theirs, theirs.init(parameters), parameters=parameters)
    found = run(ours, ours.init(parameters), parameters=parameters)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("rule", MOMENTS)
def test_amsgrad_alone_answers_a_shock_after_a_quiet_time_with_a_step_of_the_rate(rule):
    config = OptimizerConfig(
        rule=rule, learning_rate=1.0, b1=0.0, b2=0.999, warmup_steps=0, schedule="constant"
    )
    optimizer = make_optimizer(config, 10_000).transformation
    value = {"kernel": jnp.zeros(())}

    def step(state, gradient):
        update, state = optimizer.update({"kernel": gradient}, state, value)
        return state, update["kernel"]

    shocks = jnp.full(9_001, 1e-8).at[jnp.array([0, 9_000])].set(1.0)
    steps = jax.jit(lambda state: jax.lax.scan(step, state, shocks)[1])(optimizer.init(value))
    assert float(abs(steps[0])) == pytest.approx(1.0)
    assert float(abs(steps[-1])) == pytest.approx(1.0 if rule == "amsgrad" else 30.0, rel=0.1)


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="expected one of adamw, amsgrad, lamb"):
        OptimizerConfig(rule="sgd")


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_schedule_has_peak_one_and_ends_at_its_fraction(schedule, warmup):
    config = OptimizerConfig(warmup_steps=warmup, schedule=schedule, final_fraction=0.25)
    values = np.asarray(jax.vmap(make_schedule(config, 50))(jnp.arange(51)))
    assert values.max() == pytest.approx(1.0)
    assert values[0] == pytest.approx(1 / max(warmup, 1))
    assert (np.diff(values[:warmup]) > 0).all()
    assert values[50] == pytest.approx(0.25 if schedule == "cosine" else 1.0)


def test_schedule_holds_its_peak_before_it_falls():
    config = OptimizerConfig(warmup_steps=10, hold_fraction=0.5, final_fraction=0.0)
    values = np.asarray(jax.vmap(make_schedule(config, 50))(jnp.arange(51)))
    np.testing.assert_array_equal(values[9:31], 1.0)
    np.testing.assert_allclose(values[40], 0.5, rtol=1e-6)
    assert values[31] < 1
    assert values[50] == pytest.approx(0.0, abs=1e-7)


def test_schedule_shorter_than_its_warm_up_is_finite():
    values = jax.vmap(make_schedule(OptimizerConfig(warmup_steps=100), 10))(jnp.arange(10))
    assert bool(jnp.isfinite(values).all())


def test_rate_and_decay_are_leaves_that_members_can_differ_in():
    config = OptimizerConfig(learning_rate=0.1, weight_decay=0.2, warmup_steps=1)
    optimizer = make_optimizer(config, 10).transformation
    rates, decays = jnp.array([0.1, 0.02]), jnp.array([0.2, 0.5])

    @jax.vmap
    def member(rate, decay):
        state = with_hyperparameters(
            optimizer.init(PARAMETERS), learning_rate=rate, weight_decay=decay
        )
        return run(optimizer, state)

    together = member(rates, decays)
    for index in range(2):
        alone = make_optimizer(
            OptimizerConfig(
                learning_rate=float(rates[index]),
                weight_decay=float(decays[index]),
                warmup_steps=1,
            ),
            10,
        ).transformation
        expected = run(alone, alone.init(PARAMETERS))
        for name, value in expected.items():
            np.testing.assert_allclose(together[name][index], value, rtol=1e-6)


def test_unknown_hyperparameter_is_refused():
    state = make_optimizer(OptimizerConfig(), 10).transformation.init(PARAMETERS)
    with pytest.raises(KeyError):
        with_hyperparameters(state, momentum=0.5)


def test_weight_decay_leaves_biases_embeddings_and_initial_states_alone():
    parameters = nnx.state(ToyModel(rngs=nnx.Rngs(0)), nnx.Param)
    assert named_leaves(is_decayed(parameters)) == {
        "embedding.embedding": False,
        "head.bias": False,
        "head.kernel": True,
        "initial_state": False,
    }
    assert is_decayed(PARAMETERS) == {"kernel": True, "bias": False}


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.0},
        {"weight_decay": -0.1},
        {"warmup_steps": -1},
        {"schedule": "linear"},
        {"hold_fraction": 1.0},
        {"final_fraction": 1.5},
        {"clip_norm": 0.0},
        {"b1": 1.0},
        {"b2": -0.1},
        {"eps": 0.0},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_values_out_of_range_name_the_field(wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}: got .*{value}.*, expected"):
        OptimizerConfig(**wrong)
