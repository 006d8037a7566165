"""The word problem of a group: the running product of its elements."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from tasks.base import Batch, inside, symbol_ids
from tasks.groups import Group, OfGroup, group
from tasks.options import MOST_SYMBOLS, check, check_at_least, check_choice, shown
from tasks.prefix import Machine, PrefixTask, check_size, prefix_products

FILLER = "_"

_SETS = ("all", "standard", "random", "swaps", "swaps_and_3_cycles")
_TRIES = 1000
"""The number of random alphabets that are drawn before giving up. If any alphabet generates the
group, a few draws are enough."""


class WordState(NamedTuple):
    """The state of a stream of group elements.

    Attributes:
        product: int32 `[B]`, the product of all complete transitions.
        recent: int32 `[B, tokens_per_transition - 1]`, the last tokens.
        phase: int32 `[B]`, the number of tokens of the incomplete transition so far.
    """

    product: Array
    recent: Array
    phase: Array


@dataclass(frozen=True)
class WordProblem(OfGroup, PrefixTask):
    """Word problem of a finite group: which element is the product of the symbols so far?

    *Rule.* The label at position t is `x_0 x_1 ... x_t`, with the newest symbol on the right as in
    the published generators; `(a b)[i] = a[b[i]]` for permutations.

    *Alphabet.* The elements of the group, or the given generators; labels are always all elements.

    *Example.* In S3 with symbols e (23) (12) (123) (132) (13):

        input   (12)   (23)   (23)   (123)
        label   (12)   (123)  (12)   (23)

    *Published variants of S5.* Only swaps: `generators="swaps"` (the identity and 10
    transpositions); swaps and 3-cycles: `generators="swaps_and_3_cycles"` (31 symbols); k tokens
    per transition: a symbol is followed by k - 1 tokens without effect, and its effect shows on
    the last of these k tokens. Until then labels hold the product so far, which is the identity at
    first. One released version gives the tokens between a 121st label of their own instead; score
    `labels_at="transitions"` for what it measures.

    *Chance.* All elements that the generators reach are equally frequent in the long run: one over
    their number. (Where every generator is odd, half of them at any one length.)

    *Source.* Merrill et al., The Illusion of State in State-Space Models, arXiv 2404.08819; S5
    variants: Grazzi et al., Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues,
    arXiv 2411.12537; two generators: Terzić et al., arXiv 2412.19350.

    Args:
        group: Name of the group, such as "S5", "Z60", "D4", "A4xZ5", "PSL2_7", or permutations that
            generate it, "<(0 1)(2 3),(0 1 2 3 4)>": see `tasks.groups.group`.
        generators: The alphabet: "all" elements, the "standard" generators of the group (those it
            is given by, if it is), "swaps" (the identity and all transpositions; for permutation
            groups), "swaps_and_3_cycles" (those that move at most 3 points), "random" elements that
            generate the group (without the identity), or names of elements.
        composition: "right" multiplies the newest symbol on the right, as all sources do; "left"
            on the left, so that as maps the newest symbol acts last.
        tokens_per_transition: Number of tokens k that each group element takes.
        filler: The tokens that follow an element where k > 1: a filler "symbol" of its own
            (default), "repeat" the element, or the "identity".
        num_generators: How many elements `generators="random"` has, 2 by default.
        generator_seed: Which random elements, from 0 (the default) on.
        labels_at: Score "every" position, the "last" of a row, or the last token of each of the
            "transitions".

    Raises:
        ValueError: If an option is none of the above.

    Example:
        >>> import tasks
        >>> task = tasks.WordProblem("S3")
        >>> task.vocabulary
        ('e', '(23)', '(12)', '(123)', '(132)', '(13)')
        >>> labels = task.targets([task.encode("(12) (23) (23) (123)")])[0]
        >>> [task.labels[label] for label in labels]
        ['(12)', '(123)', '(12)', '(23)']
    """

    group: str = "S5"
    generators: str | tuple[str, ...] = "all"
    composition: Literal["right", "left"] = "right"
    tokens_per_transition: int = 1
    filler: Literal["symbol", "repeat", "identity"] | None = None
    num_generators: int | None = None
    generator_seed: int | None = None

    _places: ClassVar[tuple[str, ...]] = ("every", "last", "transitions")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("composition", self.composition, ("right", "left"))
        check_at_least("tokens_per_transition", self.tokens_per_transition, 1, MOST_SYMBOLS)
        if self.filler is not None:
            check_choice("filler", self.filler, ("symbol", "repeat", "identity"))
            several = self.tokens_per_transition > 1
            check(several, "tokens_per_transition", 1, "above 1 with a filler")
        for option, minimum in {"num_generators": 1, "generator_seed": 0}.items():
            value = getattr(self, option)
            if value is not None:
                check_at_least(option, value, minimum)
                if self.generators != "random":
                    raise ValueError(
                        f"{option}: got {value}, expected None unless generators='random'"
                    )
        if not isinstance(self.generators, str):
            object.__setattr__(self, "generators", tuple(self.generators))
        object.__setattr__(self, "group", group(self.group).name)
        if not any(self._symbol_elements):
            raise ValueError(
                f"generators: got {shown(self.generators)}, expected an element of {self.group} "
                "other than the identity"
            )
        if self.filler == "identity" and 0 not in self._symbol_elements:
            raise ValueError(
                f"generators: got {shown(self.generators)}, expected e with filler='identity'"
            )

    @property
    def name(self) -> str:
        """The name under which `tasks.get` finds the task, such as `s5_word_problem`."""
        return f"{self.group.lower()}_word_problem"

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The generators, and the filler if it is a symbol of its own."""
        symbols = tuple(self.labels[element] for element in self._symbol_elements)
        return (*symbols, FILLER) if self._has_filler_symbol else symbols

    @functools.cached_property
    def chance(self) -> float:
        """The accuracy of a uniform guess among all elements that the generators reach."""
        return 1 / len(self._group.closure(self._symbol_elements))

    @property
    def period(self) -> int:
        """`draw` makes chunks of whole transitions."""
        return self.tokens_per_transition

    @property
    def _has_filler_symbol(self) -> bool:
        return self.tokens_per_transition > 1 and self.filler in (None, "symbol")

    @functools.cached_property
    def _symbol_elements(self) -> tuple[int, ...]:
        """The group element of each symbol of the alphabet, without the filler."""
        if self.generators == "random":
            count = 2 if self.num_generators is None else self.num_generators
            return _random_set(self._group, count, self.generator_seed or 0)
        if isinstance(self.generators, str):
            return _named_set(self._group, self.generators)
        elements = tuple(self._group.element(name) for name in self.generators)
        check(len(set(elements)) == len(elements), "generators", self.generators, "different ones")
        return elements

    def sample(
        self, key: Array, batch: int, length: int, *, lengths: ArrayLike | None = None
    ) -> Batch:
        """Draw a batch of uniform symbols; see `SymbolTask.sample`.

        Raises:
            ValueError: As in `SymbolTask.sample`, and if no transition fits the length, so that
                nothing would be scored.
        """
        if self.labels_at == "transitions":
            check_at_least("length", length, self.tokens_per_transition)
        return super().sample(key, batch, length, lengths=lengths)

    def start(self, batch: int) -> WordState:
        """Return the state before the first symbol, whose product is the identity."""
        zeros = jnp.zeros((batch,), jnp.int32)
        recent = jnp.zeros((batch, self.tokens_per_transition - 1), jnp.int32)
        return WordState(zeros, recent, zeros)

    def advance(self, inputs: ArrayLike, state: WordState) -> tuple[Array, WordState]:
        """Label the next chunk of a stream; see `PrefixTask.advance`."""
        tokens = symbol_ids(inputs)
        length = tokens.shape[1]
        elements, recent, phase = self._transitions(tokens, state)
        table = self._group.table if self.composition == "right" else self._group.table.T
        products = prefix_products(table, elements)
        labels = jnp.asarray(table, jnp.int32)[state.product[:, None], products]
        product = labels[:, -1] if length else state.product
        return labels, WordState(product, recent, phase)

    @functools.cached_property
    def machine(self) -> Machine:
        """The automaton that computes the product so far.

        With k tokens per transition, a state consists of the product of the complete transitions,
        the number of tokens read of the next transition, and the first of these tokens.

        Raises:
            ValueError: If the automaton is too large to be written out.
        """
        k, symbols = self.tokens_per_transition, len(self.vocabulary)
        order, count = self._group.order, len(self._symbol_elements)
        table = self._group.table if self.composition == "right" else self._group.table.T
        effect = np.array((*self._symbol_elements, *((0,) if self._has_filler_symbol else ())))
        product = np.arange(order)
        if k == 1:
            return Machine(table[:, effect], product, 0, np.full(symbols, 1 / symbols))
        # Between two transitions the state is `product`; inside a transition it is `order` plus the
        # index of (product, phase - 1, first token).
        shape = (order, k - 1, symbols)
        check_size(order + math.prod(shape), symbols)
        inner, phase, first = np.unravel_index(np.arange(math.prod(shape)), shape)
        begun = order + np.ravel_multi_index(
            (product[:, None], np.zeros((), int), np.arange(symbols)), shape
        )
        following = order + np.ravel_multi_index(
            (inner, np.minimum(phase + 1, k - 2), first), shape
        )
        after = np.where(phase == k - 2, table[inner, effect[first]], following)
        transition = np.concatenate([begun, np.repeat(after[:, None], symbols, axis=1)])
        chosen, filler = np.arange(symbols) < count, np.full(len(first), count)
        if self.filler == "repeat":
            filler = first
        elif self.filler == "identity":
            filler = np.full(len(first), self._symbol_elements.index(0))
        drawn = np.concatenate([np.tile(chosen, (order, 1)), np.arange(symbols) == filler[:, None]])
        fills = drawn[-symbols:].mean(axis=0)
        frequencies = (chosen / count + (k - 1) * fills) / k
        return Machine(transition, np.r_[product, inner], 0, frequencies, drawn)

    def _transitions(self, tokens: Array, state: WordState) -> tuple[Array, Array, Array]:
        """Return the element that takes effect at each position.

        The recent tokens and the phase after the last position are returned, too.
        """
        k, length = self.tokens_per_transition, tokens.shape[1]
        filler = (0,) if self._has_filler_symbol else ()
        element = jnp.asarray((*self._symbol_elements, *filler), jnp.int32)
        seen = jnp.concatenate([state.recent, tokens], axis=1)
        phase = (state.phase[:, None] + jnp.arange(length, dtype=jnp.int32)) % k
        elements = jnp.where(phase == k - 1, element[seen[:, :length]], 0)
        return elements, seen[:, length:], (state.phase + length) % k

    def _symbols(self, key: Array, batch: int, length: int) -> Array:
        k, count = self.tokens_per_transition, len(self._symbol_elements)
        blocks = -(-length // k)
        drawn = jax.random.randint(key, (batch, blocks, 1), 0, count, jnp.int32)
        if k == 1:
            return drawn[:, :, 0]
        if self.filler == "repeat":
            filler = drawn
        else:
            filler = count if self._has_filler_symbol else self._symbol_elements.index(0)
        shape = (batch, blocks, k - 1)
        tokens = jnp.concatenate([drawn, jnp.broadcast_to(filler, shape)], axis=2, dtype=jnp.int32)
        return tokens.reshape(batch, blocks * k)[:, :length]

    def _scored(self, lengths: Array, length: int) -> Array:
        if self.labels_at == "transitions":
            k = self.tokens_per_transition
            return inside(lengths, length) & (jnp.arange(length) % k == k - 1)
        return super()._scored(lengths, length)


def _named_set(of: Group, name: str) -> tuple[int, ...]:
    """Return the ids of a named set of elements, ascending except for standard generators."""
    check_choice("generators", name, _SETS)
    if name == "all":
        return tuple(range(of.order))
    if name == "standard":
        return of.generators
    if of.images is None:
        raise ValueError(f"group: got {of.name}, expected a permutation group with {shown(name)}")
    points = 2 if name == "swaps" else 3
    moved = (of.images != np.arange(of.images.shape[1])).sum(axis=1)
    return tuple(np.flatnonzero(moved <= points).tolist())


def _random_set(of: Group, count: int, seed: int) -> tuple[int, ...]:
    """Return the ids, ascending, of random elements that generate a group, without the identity."""
    random = np.random.default_rng((seed, count, of.order))
    if count < of.order:
        for _ in range(_TRIES):
            chosen = 1 + random.choice(of.order - 1, count, replace=False)
            if len(of.closure(chosen.tolist())) == of.order:
                return tuple(sorted(chosen.tolist()))
    raise ValueError(f"num_generators: got {count}, expected elements that generate {of.name}")
