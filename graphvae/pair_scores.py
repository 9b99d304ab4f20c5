r"""Edges whose scores are no inner products: any function of a pair of nodes, or one score for every type of edge.

Time is that of all pairs, and memory a number (of `CategoricalEdges`: T numbers, and what made them) for each: for
small graphs. Pairs i < j are numbered j(j - 1)/2 + i within a graph, graph after graph, so that the scores of a graph
of n nodes begin with those of its first n - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.checkpoint import checkpoint

from graphvae.edge_distributions import IndependentEdges, sum_over_edges
from graphvae.layout import Layout
from graphvae.nonedges import NonEdges
from graphvae.pairs import softplus
from graphvae.sparse import at_least_single
from graphvae.validation import check_edge_types, check_types

_PAIRS = 1 << 17  # Whose scores are computed at a time.


def all_pairs(layout: Layout) -> Tensor:
    """`(2, P)` all pairs i < j of nodes of one graph, in the order of their numbers."""
    largest = max(layout.host_sizes)
    later, earlier = torch.tril_indices(largest, largest, -1, device=layout.ptr.device)
    graph_of, pair = (later < layout.sizes[:, None]).nonzero(as_tuple=True)
    return layout.ptr[graph_of] + torch.stack([earlier[pair], later[pair]])


class PairEdges(IndependentEdges):
    r"""Independent edges with logits \(s_{ij}\) that a function gives: `p(A | Z)` of any network on pairs of nodes.

    Scores are computed when they are asked for, and again in the backward pass where there are many: memory is one
    number a pair beside what the function needs for some hundred thousand. Convention: labelled graphs without self
    loops. Probabilities of all graphs of a size sum to one.

    Args:
        score: `(2, P)` pairs to `(P,)` log-odds; symmetric, unless `directed`. Half precision is taken as float32.
        layout: Of the nodes.
        directed: Ordered pairs.
    """

    def __init__(self, score: Callable[[Tensor], Tensor], layout: Layout, directed: bool = False) -> None:
        self.score, self.layout, self.directed = score, layout, directed

    def logits(self, pairs: Tensor) -> Tensor:
        """Log-odds of `pairs` `(2, P)`, any pairs: `(P,)`."""
        return at_least_single(self.score(pairs))

    def log_normalizer(self) -> Tensor:
        """The sum over all pairs of softplus(s), `(B,)`: minus the log-probability of the graph without edges."""

        def terms(pairs: Tensor) -> Tensor:
            return softplus(self.logits(pairs))

        parts = list(self._parts())
        if len(parts) == 1 or not torch.is_grad_enabled():
            found = [terms(pairs) for pairs in parts]
        else:
            found = [checkpoint(terms, pairs, use_reentrant=False) for pairs in parts]
        return self._sum(torch.cat(found))

    def expected_edges(self) -> Tensor:
        """The mean number of edges, `(B,)`, undirected edges counted once; without gradient."""
        return self._sum(torch.cat([logits.sigmoid() for logits in self.all_logits()]))

    @torch.no_grad()
    def all_logits(self) -> Iterator[Tensor]:
        """The log-odds of every pair, without gradient, in pieces `(P,)` of a few hundred thousand."""
        for pairs in self._parts():
            yield self.logits(pairs)

    def double(self) -> PairEdges:
        """The same edges with their scores, as the function gives them, in float64."""
        return PairEdges(lambda pairs: self.logits(pairs).double(), self.layout, self.directed)

    def shifted(self, log_odds: float) -> PairEdges:
        """The same edges with `log_odds` added to every logit."""
        return PairEdges(lambda pairs: self.logits(pairs) + log_odds, self.layout, self.directed)

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A draw of all pairs, as `edge_index` `(2, E)` with both directions of an undirected edge."""
        found = []
        for pairs in self._parts():
            joined = torch.bernoulli(self.logits(pairs).sigmoid(), generator=generator).bool()
            found.append(pairs[:, joined])
        edges = torch.cat(found, 1)
        return edges if self.directed else torch.cat([edges, edges.flip(0)], 1)

    def _parts(self) -> Iterator[Tensor]:
        """All pairs, some at a time, at least one part."""
        every = NonEdges.every(self.layout, self.directed)
        for first in range(0, max(1, every.count), _PAIRS):
            last = min(first + _PAIRS, every.count)
            yield every.at(torch.arange(first, last, device=self.layout.ptr.device))

    def _sum(self, values: Tensor) -> Tensor:
        return _layout_of_pairs(self.layout, self.directed).sum(values)


class CategoricalEdges:
    r"""Independent undirected edges of T types: each pair is not joined (class 0), or joined by an edge of one type.

    \(\log p(A \mid Z) = \sum_{edges} s_{ij}^{type} - \sum_{pairs} \log(1 + \sum_t \exp s_{ij}^t)\), where \(s^t\) are
    log-odds against no edge. Convention: labelled graphs without self loops; probabilities of all typed graphs of a
    size sum to one. With one type it is the distribution of `PairEdges`.

    Args:
        scores: `(P, T)`, a row for each pair of `all_pairs(layout)`; half precision is taken as float32.
        layout: Of the nodes.
    """

    directed: bool = False

    def __init__(self, scores: Tensor, layout: Layout) -> None:
        self._every = NonEdges.every(layout)
        if scores.dim() != 2 or scores.size(0) != self._every.count or scores.size(1) < 1:
            raise ValueError(
                f"'scores' must be (P, T) with one row for each of the {self._every.count} pairs of 'layout' and at "
                f"least one type, got shape {tuple(scores.shape)}"
            )
        self.scores, self.layout = at_least_single(scores), layout

    @property
    def edge_types(self) -> int:
        """T, the number of types of edges that are present."""
        return self.scores.size(1)

    def logits(self, pairs: Tensor) -> Tensor:
        """Log-odds of each type against no edge, of `pairs` `(2, P)` of different nodes of one graph: `(P, T)`."""
        return self.scores.index_select(0, self._every.index(pairs))

    def log_normalizer(self) -> Tensor:
        """The sum over all pairs of log(1 + sum of exp s), `(B,)`: minus the log-probability without edges."""
        return _layout_of_pairs(self.layout).sum(self._with_none().logsumexp(1))

    def edge_sum(self, values: Tensor, edge_index: Tensor) -> Tensor:
        """Sums values `(E,)` of the columns of `edge_index` over each graph, `(B,)`, undirected edges once."""
        return sum_over_edges(values, edge_index, self.layout, directed=False)

    def log_prob(self, edge_index: Tensor, edge_type: Tensor) -> Tensor:
        """Log-probability of the edges and their types: `(B,)`.

        Args:
            edge_index: `(2, E)`, both directions of an edge present.
            edge_type: `(E,)` int64 in 0, ..., T - 1, the same in both directions.

        Raises:
            TypeError, ValueError: Not one type for each column of `edge_index`, no integers, out of range, or different
                in the two directions of an edge.
        """
        index = self._every.index(edge_index)
        self._check_types(edge_index, edge_type, index)
        chosen = self.scores.index_select(0, index).gather(1, edge_type[:, None]).squeeze(1)
        return self.edge_sum(chosen, edge_index) - self.log_normalizer()

    def _check_types(self, edge_index: Tensor, edge_type: Tensor, index: Tensor) -> None:
        """In time O(E), because every step of a training comes here; what is wrong is then looked for at leisure."""
        if isinstance(edge_type, Tensor) and edge_type.dtype == torch.int64 and edge_type.shape == index.shape:
            # Of two directions that differ only one is kept.
            kept = edge_type.new_empty(self._every.count).index_copy(0, index, edge_type).index_select(0, index)
            if bool(((kept == edge_type) & (edge_type >= 0) & (edge_type < self.edge_types)).all()):
                return
        check_edge_types(edge_type, edge_index, self.layout.num_rows)
        check_types(edge_type, self.edge_types)

    def expected_edges(self) -> Tensor:
        """The mean number of edges of each type, `(B, T)`; without gradient."""
        layout, chances = _layout_of_pairs(self.layout), self._with_none().detach().softmax(1)[:, 1:]
        return torch.stack([layout.sum(chance) for chance in chances.unbind(1)], 1)

    def double(self) -> CategoricalEdges:
        """The same edges in float64."""
        return CategoricalEdges(self.scores.double(), self.layout)

    @torch.no_grad()
    def sample(self, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """A draw of all pairs: `edge_index` `(2, E)` with both directions of an edge, and `edge_type` `(E,)`."""
        if self._every.count == 0:
            return self._graph(self.layout.ptr.new_empty(0))
        chances = self._with_none().softmax(1)
        return self._graph(torch.multinomial(chances, 1, generator=generator).squeeze(1))

    @torch.no_grad()
    def mode(self) -> tuple[Tensor, Tensor]:
        """The most probable graph, as `sample`."""
        return self._graph(self._with_none().argmax(1))

    def _with_none(self) -> Tensor:
        """`(P, T + 1)` unnormalised log-probabilities of the classes, zero for no edge."""
        return pad(self.scores, (1, 0))

    def _graph(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """The graph in which each pair has the class given, 0 for no edge."""
        numbers = classes.nonzero().squeeze(1)
        pairs, types = self._every.at(numbers), classes.index_select(0, numbers) - 1
        return torch.cat([pairs, pairs.flip(0)], 1), types.repeat(2)


def _layout_of_pairs(layout: Layout, directed: bool = False) -> Layout:
    """Which graph each pair belongs to."""
    return Layout.of(layout.num_pairs * (2 if directed else 1))
