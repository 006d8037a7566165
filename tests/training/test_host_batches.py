import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from recorder import Recorder
from toy import Parity, ToyBatch, ToyModel

from plstm_seq.training import (
    HostSample,
    OptimizerConfig,
    Sizes,
    TrainingConfig,
    fit,
)
from plstm_seq.training.loss import score

CONFIG = TrainingConfig(
    steps=6,
    batch_size=4,
    steps_per_dispatch=2,
    checkpoint_every=2,
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=1),
    curriculum=Sizes(((5, 4), (3, 2))),
    solved=None,
)
KEY = jax.random.key(3)


class OnDevice(Parity):
    """Draws by the key alone."""

    def sample(self, key, batch, length, *, lengths=None):
        del key, lengths
        return super().sample(jax.random.key(length), batch, length)


class OnHost:
    """The same batches as `OnDevice`; remembers what it was asked for."""

    def __init__(self, fails_at=None):
        self.asked = []
        self.fails_at = fails_at

    def on_host(self, seed, step, batch, size):
        self.asked.append((tuple(seed), step, batch, size))
        if step == self.fails_at:
            raise OSError("image 7 cannot be read")
        return ToyBatch(*map(np.asarray, Parity().sample(jax.random.key(size), batch, size)))


def trained(sample, **options):
    model = ToyModel(rngs=nnx.Rngs(0))
    result = fit(model, sample, CONFIG, key=KEY, **options)
    return result, [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]


def test_batches_from_the_host_train_as_those_drawn_on_the_device():
    host = OnHost()
    records = Recorder()
    result, parameters = trained(host, trackers=[records])
    expected, theirs = trained(OnDevice().sample)
    assert result.step == expected.step == 6
    assert result.record["loss"] == pytest.approx(expected.record["loss"], rel=1e-5)
    for ours, reference in zip(parameters, theirs, strict=True):
        np.testing.assert_allclose(ours, reference, rtol=2e-5, atol=1e-6)
    seed = tuple(int(word) for word in jax.random.key_data(KEY))
    assert host.asked == [(seed, step, 4, 5 if step < 4 else 3) for step in range(6)]
    assert [record["step"] for record in records.records] == [2, 4, 6]


def test_a_resumed_run_asks_for_the_steps_that_are_left(tmp_path):
    class StopTrainingError(Exception):
        pass

    def stop(record):
        if record["step"] == 4:
            raise StopTrainingError

    with pytest.raises(StopTrainingError):
        trained(OnHost(), folder=tmp_path, trackers=[Recorder(stop)])
    host = OnHost()
    _, resumed = trained(host, folder=tmp_path, resume=True)
    _, whole = trained(OnHost())
    for ours, reference in zip(resumed, whole, strict=True):
        np.testing.assert_array_equal(ours, reference)
    assert [step for _, step, *_ in host.asked] == [2, 3, 4, 5]


def test_what_goes_wrong_on_the_host_is_raised():
    with pytest.raises(OSError, match="image 7"):
        trained(OnHost(fails_at=3))


def test_the_two_kinds_of_sample_are_told_apart():
    assert isinstance(OnHost(), HostSample)
    assert not isinstance(Parity().sample, HostSample)


@pytest.mark.parametrize("shape", [(4,), (4, 6), (4, 2, 3)], ids=["label", "sequence", "grid"])
def test_score_counts_examples_of_any_shape(shape):
    targets = jax.random.randint(jax.random.key(0), shape, 0, 3)
    wrong = jnp.zeros(shape, bool).at[(1,) + (0,) * (len(shape) - 1)].set(True)
    logits = 5 * jax.nn.one_hot(jnp.where(wrong, (targets + 1) % 3, targets), 3)
    mask = jnp.ones(shape, bool).at[2].set(False)
    loss, counts = score(logits, targets, mask)
    inner = int(np.prod(shape[1:]))
    assert {name: int(count) for name, count in counts.items()} == {
        "correct_tokens": 3 * inner - 1,
        "scored_tokens": 3 * inner,
        "correct_sequences": 2,
        "scored_sequences": 3,
    }
    right, off = np.log(1 + 2 * np.exp(-5)), np.log(2 + np.exp(5))
    assert float(loss) == pytest.approx((right * (3 * inner - 1) + off) / (3 * inner), rel=1e-5)


def test_sizes_follow_their_stages():
    curriculum = Sizes(((8, 3), (4, 2), (6, 1)))
    sizes = [curriculum.phase(step).bucket for step in range(8)]
    assert sizes == [8, 8, 8, 4, 4, 6, 6, 6]
    assert [curriculum.phase(step).until for step in (0, 3, 5)] == [3, 5, None]
    assert (curriculum.longest, curriculum.final_start) == (8, 5)
    with pytest.raises(ValueError, match="stages"):
        Sizes(())
