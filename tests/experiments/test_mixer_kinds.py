"""Every mixer by its one word on the command line."""

import jax
import pytest
from flax import nnx

from experiments import default_config, override
from experiments.config import from_document, to_document
from experiments.costs import costs_of
from experiments.reading import hints, kinds_of
from experiments.run import new_model
from plstm_seq.models import SequenceModelConfig

KINDS = kinds_of(hints(SequenceModelConfig)["mixer"])


@pytest.mark.parametrize("kind", KINDS)
def test_one_word_makes_a_model(kind):
    """The recommended model keeps its heads and width; the config survives YAML."""
    config = override(default_config("parity"), [f"mixer={kind}"])
    assert type(config.model.mixer) is KINDS[kind]
    assert getattr(config.model.mixer, "num_heads", 4) == 4
    assert from_document(to_document(config)) == config
    model = nnx.eval_shape(lambda: new_model(config))
    tokens = jax.ShapeDtypeStruct((2, 5), "int32")
    logits = jax.eval_shape(lambda tokens: new_model(config)(tokens), tokens)
    assert logits.shape == (2, 5, 2)
    costs = costs_of(config)
    assert costs.parameters > 0
    assert costs.flops_per_token > 0
    assert (costs.state_size > 0) == model.bounded_state


def test_fields_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="beta_max"):
        override(default_config("parity"), ["mixer=lstm", "mixer.beta_max=1"])
