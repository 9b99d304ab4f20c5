"""The conventions differ by log n! and log|Aut|, and nothing else gets from one to another."""

import itertools
import math

import pytest
import torch
from torch_geometric.data import Data

from conftest import all_edge_sets
from graphvae.automorphisms import log_automorphisms, log_automorphisms_bound
from graphvae.conventions import Convention, convert, log_relabellings
from graphvae.graphs import as_batch

LABELLED, SYMMETRISED, SUMMED = Convention.LABELLED, Convention.SYMMETRISED, Convention.SUMMED
ISOMORPHISM_CLASS = Convention.ISOMORPHISM_CLASS


def path(num_nodes: int, x: torch.Tensor | None = None) -> Data:
    edges = torch.stack([torch.arange(num_nodes - 1), torch.arange(1, num_nodes)])
    return Data(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), num_nodes=num_nodes)


def two_cycles() -> Data:
    """A triangle and a square, which colour refinement takes for one orbit."""
    edges = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [1, 2, 0, 4, 5, 6, 3]])
    return Data(edge_index=torch.cat([edges, edges.flip(0)], 1), num_nodes=7)


def test_relabellings_are_counted():
    assert log_relabellings([path(1), path(2), path(5)]).exp().tolist() == pytest.approx([1, 2, 120])


def test_the_factors_are_those_of_the_definitions(double):
    graphs, log_prob = [path(4), path(1), two_cycles()], torch.randn(3, 3)
    orders, automorphisms = torch.tensor([24.0, 1, 5040]).log(), torch.tensor([2.0, 1, 48]).log()
    expected = {SYMMETRISED: 0 * orders, SUMMED: orders, ISOMORPHISM_CLASS: orders - automorphisms}
    for source, target in itertools.product(expected, repeat=2):
        found = convert(log_prob, graphs, source, target)
        torch.testing.assert_close(found, log_prob + expected[target] - expected[source], rtol=0, atol=1e-12)
        torch.testing.assert_close(convert(found, graphs, target, source), log_prob, rtol=0, atol=1e-12)


def test_what_is_converted_keeps_its_type_and_gradient():
    log_prob = torch.randn(2, requires_grad=True)
    found = convert(log_prob, [path(3), path(2)], SYMMETRISED, ISOMORPHISM_CLASS)
    assert found.dtype == torch.float32
    assert torch.equal(torch.autograd.grad(found.sum(), log_prob)[0], torch.ones(2))


def test_features_take_automorphisms_away(double):
    graphs = as_batch([path(4, torch.arange(4.0)[:, None]), path(4, torch.ones(4, 1))])
    found = convert(torch.zeros(2), graphs, SYMMETRISED, ISOMORPHISM_CLASS, features=True)
    assert found.exp().tolist() == pytest.approx([24, 12])
    # Unless they are no part of what has the probability.
    found = convert(torch.zeros(2), graphs, SYMMETRISED, ISOMORPHISM_CLASS)
    assert found.exp().tolist() == pytest.approx([12, 12])


@pytest.mark.parametrize("directed", [False, True])
def test_a_uniform_model_gives_each_isomorphism_class_the_share_of_its_orbit(directed, double):
    """All labelled graphs on 3 nodes are equally likely: adding p([G]) / (size of the class of G) gives one."""
    listed = [Data(edge_index=edge_index, num_nodes=3) for edge_index in all_edge_sets(3, directed)]
    graphs = as_batch(listed, directed=directed)
    labelled = torch.full((len(listed),), -math.log(len(listed)))
    of_class = convert(labelled, graphs, SYMMETRISED, ISOMORPHISM_CLASS)
    orbits = (log_relabellings(graphs) - log_automorphisms(graphs)).exp()
    assert (of_class.exp() / orbits).sum().item() == pytest.approx(1, abs=1e-12)
    assert (1 / orbits).sum().item() == pytest.approx(16 if directed else 4)


def test_with_an_upper_bound_on_the_automorphisms_a_lower_bound_stays_one(double):
    graphs, log_prob = as_batch(two_cycles()), torch.zeros(1)
    log_aut = log_automorphisms_bound(graphs)
    down = convert(log_prob, graphs, SYMMETRISED, ISOMORPHISM_CLASS, log_aut=log_aut)
    assert down < convert(log_prob, graphs, SYMMETRISED, ISOMORPHISM_CLASS) - 0.5
    up = convert(log_prob, graphs, ISOMORPHISM_CLASS, SYMMETRISED, log_aut=log_aut)
    assert up > convert(log_prob, graphs, ISOMORPHISM_CLASS, SYMMETRISED) + 0.5


@pytest.mark.parametrize("other", [SYMMETRISED, ISOMORPHISM_CLASS, SUMMED])
def test_labelled_probabilities_are_not_converted(other):
    log_prob, graphs = torch.zeros(1), path(3)
    assert convert(log_prob, graphs, LABELLED, LABELLED) is log_prob
    for pair in ((LABELLED, other), (other, LABELLED)):
        with pytest.raises(ValueError, match=r"equivariant.*Convention\.SYMMETRISED"):
            convert(log_prob, graphs, *pair)


@pytest.mark.parametrize("pair", [("SUMMED", SYMMETRISED), (SYMMETRISED, "summed"), (None, SUMMED)])
def test_what_is_no_convention_is_refused(pair):
    with pytest.raises(TypeError, match="must be a Convention, such as"):
        convert(torch.zeros(1), path(3), *pair)
    with pytest.raises(TypeError, match="must be floating point"):
        convert(torch.zeros(1, dtype=torch.long), path(3), SYMMETRISED, SUMMED)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match=r"'log_prob' must end in one entry per graph, 2"):
        convert(torch.zeros(2, 1), [path(3), path(2)], SYMMETRISED, SUMMED)
    with pytest.raises(ValueError, match="'log_aut' must end in"):
        convert(torch.zeros(2), [path(3), path(2)], SYMMETRISED, ISOMORPHISM_CLASS, log_aut=torch.zeros(3))
    with pytest.raises(ValueError, match="log_automorphisms_bound"):
        convert(torch.zeros(1), path(80), SYMMETRISED, ISOMORPHISM_CLASS)
