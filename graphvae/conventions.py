"""The three probabilities of a graph, which differ by n! and the number of automorphisms, and how they convert."""

from __future__ import annotations

from enum import Enum, auto

import torch
from torch import Tensor
from torch_geometric.data import Batch

from graphvae.automorphisms import log_automorphisms
from graphvae.graphs import Graphs, as_batch, batch_of, field, without_features


class Convention(Enum):
    r"""Which probability of a graph G of n nodes a number is the logarithm of; P runs over all n! relabellings.

    For an equivariant model p(PG) = p(G), so that its labelled probability is its symmetrised one. For n = 20 the
    symmetrised probability and that of the isomorphism class differ by up to 42 nats: quote no number without its
    convention.
    """

    LABELLED = auto()
    r"""\(p(G)\): of the graph with its nodes numbered as they are."""

    SYMMETRISED = auto()
    r"""\(\bar p(G) = \frac{1}{n!} \sum_P p(PG)\): of drawing a graph and then shuffling its nodes."""

    ISOMORPHISM_CLASS = auto()
    r"""\(p([G]) = \frac{1}{a} \sum_P p(PG) = \frac{n!}{a} \bar p(G)\), \(a = \lvert\mathrm{Aut}(G)\rvert\): of the
    graph without numbers, the sum over its distinct relabellings. It adds to one over isomorphism classes."""

    SUMMED = auto()
    r"""\(\sum_P p(PG) = n!\, \bar p(G) = \lvert\mathrm{Aut}(G)\rvert\, p([G])\): what sums over relabellings
    bound. Not a probability: it counts a graph once for each automorphism, and adds to more than one over classes."""


def convert(
    log_prob: Tensor,
    graphs: Graphs,
    source: Convention,
    target: Convention,
    *,
    features: bool = False,
    types: bool = False,
    log_aut: Tensor | None = None,
) -> Tensor:
    """Log-probabilities of `graphs`, or bounds on them, in another convention.

    What a graph is, depends on the model: with a feature factor its edges and x, otherwise its edges alone.

    Args:
        log_prob: `(..., B)` in nats, in the convention `source`.
        graphs: The B graphs.
        source: What `log_prob` is.
        target: What is wanted.
        features: Whether x is part of the graph, for a model with a feature factor; else automorphisms are those of the
            edges alone. To leave it out where it belongs keeps a lower bound on log p([G]) a bound.
        types: Whether types of edges are part of the graph; likewise.
        log_aut: `(B,)` logarithm of the number of automorphisms, needed to or from ISOMORPHISM_CLASS; exact if None.
            With the upper bound of `log_automorphisms_bound` a lower bound on log p([G]) comes out too low, and so
            stays a lower bound; from ISOMORPHISM_CLASS it makes results too high, and so only upper bounds stay bounds.

    Returns:
        The shape of `log_prob`.

    Raises:
        TypeError: `source` or `target` is no Convention.
        ValueError: To or from LABELLED: one numbering does not tell the others. A size of `log_prob` or `log_aut` is
            wrong, or a graph too large for its automorphisms to be counted.
    """
    batch = as_batch(graphs, directed=True)
    for name, given in (("log_prob", log_prob), ("log_aut", log_aut)):
        if given is not None and given.shape[-1:] != (batch.layout.num_graphs,):
            raise ValueError(f"'{name}' must end in one entry per graph, {batch.layout.num_graphs}, got {given.shape}")
    for name, convention in (("source", source), ("target", target)):
        if not isinstance(convention, Convention):
            raise TypeError(f"'{name}' must be a Convention, such as Convention.SYMMETRISED, got {convention!r}")
    if not log_prob.is_floating_point():
        raise TypeError(f"'log_prob' must be floating point, got {log_prob.dtype}")
    if source is target:
        return log_prob
    if Convention.LABELLED in (source, target):
        raise ValueError(
            f"'source' and 'target' must not be LABELLED unless both are, got {source.name} and {target.name}: p(G) of "
            "one numbering does not tell the others. If the model is equivariant, p(G) is the symmetrised probability; "
            "say so with Convention.SYMMETRISED. Otherwise sum over orders, as evaluation.likelihood.exact does"
        )
    batch = part_of_graph(batch, features, types)
    to_target = _log_factor(batch, target, log_aut) - _log_factor(batch, source, log_aut)
    return log_prob + to_target.to(log_prob)


def part_of_graph(batch: Batch, features: bool, types: bool) -> Batch:
    """The batch with no more than what has a probability: its edges; x if `features`; edge types if `types`."""
    if not features:
        return without_features(batch, keep_types=types)
    if types or field(batch, "edge_type") is None:
        return batch
    return batch_of(batch.x, batch.edge_index, batch.layout, batch.directed)


def log_relabellings(graphs: Graphs) -> Tensor:
    """Log n! of each graph, `(B,)` float64."""
    return torch.lgamma(as_batch(graphs, directed=True).layout.sizes.double() + 1)


def _log_factor(batch: Batch, convention: Convention, log_aut: Tensor | None) -> Tensor:
    """What to add to log p̄(G), `(B,)` float64."""
    if convention is Convention.SYMMETRISED:
        return torch.zeros_like(batch.layout.sizes, dtype=torch.float64)
    if convention is Convention.SUMMED:
        return log_relabellings(batch)
    return log_relabellings(batch) - (log_automorphisms(batch) if log_aut is None else log_aut)
