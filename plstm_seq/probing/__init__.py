"""Probing: what a trained model has learned. It knows no task: it takes tables and streams.

recording = record(model, tokens)
gates = by_token(recording, num_tokens=len(symbols))
values = spectrum(gates.transitions).eigenvalues
parts = realizations(recording.layers[0], gates)
learned = homomorphism(parts[0].transitions, table, symbols)
"""

from plstm_seq.probing.characters import (
    CharacterTable,
    RealIrreducibles,
    RepresentationMatch,
    character_table,
    match_representations,
    real_irreducibles,
    smallest_faithful,
    smallest_faithful_sums,
)
from plstm_seq.probing.exact import exact_model
from plstm_seq.probing.exact_automata import (
    LinearForm,
    automaton_form,
    exact_automaton,
    exact_linear,
    exact_modular_arithmetic,
    modular_arithmetic_form,
)
from plstm_seq.probing.groups import GroupAnalysis, analyse
from plstm_seq.probing.homomorphism import (
    Composition,
    Homomorphism,
    RelatorDefects,
    homomorphism,
    relator_defects,
    relators,
)
from plstm_seq.probing.learned_group import LearnedGroup, NotAGroupError, learned_group
from plstm_seq.probing.realization import Realization, Spectrum, realization, realizations, spectrum
from plstm_seq.probing.recording import (
    GATES,
    GridLayerRecord,
    GridRecording,
    LayerRecord,
    Recording,
    TokenGates,
    by_token,
    record,
    record_grid,
)
from plstm_seq.probing.representations import (
    MAX_ORDER,
    faithful_representation,
    orthogonal_form,
    permutation_matrices,
)
from plstm_seq.probing.rounding import (
    Rounded,
    RoundedHead,
    RoundingError,
    round_model,
    round_transitions,
    with_orthogonal_transitions,
)
from plstm_seq.probing.sensitivity import Sensitivity, sensitivity
from plstm_seq.probing.states import (
    TOO_CLOSE,
    LinearProbe,
    Separability,
    StateSample,
    linear_probe,
    sample_states,
    separability,
)

__all__ = [
    "GATES",
    "MAX_ORDER",
    "TOO_CLOSE",
    "CharacterTable",
    "Composition",
    "GridLayerRecord",
    "GridRecording",
    "GroupAnalysis",
    "Homomorphism",
    "LayerRecord",
    "LearnedGroup",
    "LinearForm",
    "LinearProbe",
    "NotAGroupError",
    "RealIrreducibles",
    "Realization",
    "Recording",
    "RelatorDefects",
    "RepresentationMatch",
    "Rounded",
    "RoundedHead",
    "RoundingError",
    "Sensitivity",
    "Separability",
    "Spectrum",
    "StateSample",
    "TokenGates",
    "analyse",
    "automaton_form",
    "by_token",
    "character_table",
    "exact_automaton",
    "exact_linear",
    "exact_model",
    "exact_modular_arithmetic",
    "faithful_representation",
    "homomorphism",
    "learned_group",
    "linear_probe",
    "match_representations",
    "modular_arithmetic_form",
    "orthogonal_form",
    "permutation_matrices",
    "real_irreducibles",
    "realization",
    "realizations",
    "record",
    "record_grid",
    "relator_defects",
    "relators",
    "round_model",
    "round_transitions",
    "sample_states",
    "sensitivity",
    "separability",
    "smallest_faithful",
    "smallest_faithful_sums",
    "spectrum",
    "with_orthogonal_transitions",
]
