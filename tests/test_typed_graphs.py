"""Types of edges go where the edges go: through batches, mini-batches, relabelling, models, training and files."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import RGCNConv
from torch_geometric.nn.aggr import SumAggregation

import graphvae
from graphvae import GraphVAE, elbo, fit
from graphvae.automorphisms import log_automorphisms, log_automorphisms_bound
from graphvae.backbones import Nodewise, Stack
from graphvae.bounds import image_bound, importance_bound, inner_bound, matching_bound, permutation_bound
from graphvae.conventions import Convention
from graphvae.decoders import DenseGraph
from graphvae.edges import InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.evaluation.likelihood import every_order, exact
from graphvae.features import BernoulliFeatures
from graphvae.graphs import Selector, as_batch, batch_of, copies, permute, relabelled, without_features
from graphvae.order_sets import image_hashes
from graphvae.orderings import BreadthFirst, Uniform
from graphvae.placed import edge_classes
from graphvae.priors import StandardNormal
from graphvae.testing import assert_permutation_invariant


def triangle(types=(0, 1, 1), kinds=(0, 1, 0)):
    """Nodes 0, 1, 2 with edges 01, 12, 02 of these types."""
    once = torch.tensor([[0, 1, 0], [1, 2, 2]])
    x = nn.functional.one_hot(torch.tensor(kinds), 2).to(torch.get_default_dtype())
    return Data(x=x, edge_index=torch.cat([once, once.flip(0)], 1), edge_type=torch.tensor(types).repeat(2))


def path(types=(1, 0)):
    once = torch.tensor([[0, 1], [1, 2]])
    x = nn.functional.one_hot(torch.tensor([1, 1, 0]), 2).to(torch.get_default_dtype())
    return Data(x=x, edge_index=torch.cat([once, once.flip(0)], 1), edge_type=torch.tensor(types).repeat(2))


def typed_vae(places=4, latent=2):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(latent, 16), nn.Tanh())
    return GraphVAE(
        prior=StandardNormal(latent),
        encoder=NormalEncoder(Stack(RGCNConv(2, 8, 2), nn.ReLU(), RGCNConv(8, 8, 2)), 8, latent, pool=SumAggregation()),
        decoder=DenseGraph(places, 16, 0.5, node_types=2, edge_types=2, network=network),
    )


def test_types_follow_their_edges(double):
    graphs = [triangle(), path()]
    batch = as_batch(graphs)
    assert batch.edge_type.shape == (10,)
    again = batch.to_data_list()
    assert [g.edge_type.tolist() for g in again] == [g.edge_type.tolist() for g in graphs]
    classes = edge_classes(batch)
    assert classes[0].tolist() == [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
    assert edge_classes(Selector(batch)([1, 0, 1]))[[0, 2]].equal(classes[[1, 1]])
    assert edge_classes(copies(batch, 2)).equal(classes.repeat(2, 1, 1))
    order = torch.tensor([2, 0, 1, 4, 5, 3])
    moved = edge_classes(permute(batch, order))
    assert moved[0].equal(classes[0][order[:3]][:, order[:3]])
    assert moved[1].equal(classes[1][order[3:] - 3][:, order[3:] - 3])
    assert edge_classes(without_features(batch, keep_types=True)).equal(classes)
    assert edge_classes(without_features(batch)).equal(classes.clamp(max=1))


def test_types_that_make_no_sense_are_refused():
    wrong = triangle()
    wrong.edge_type = torch.tensor([0, 1, 1, 0, 0, 1])
    with pytest.raises(ValueError, match=r"alike in both directions .* differs for \(1, 2\)"):
        as_batch(wrong)
    with pytest.raises(TypeError, match="'edge_type' must be an int64 tensor"):
        as_batch(Data(x=wrong.x, edge_index=wrong.edge_index, edge_type=torch.ones(6)))
    with pytest.raises(ValueError, match=r"one type >= 0 a column, got shape \(5,\)"):
        as_batch(Data(x=wrong.x, edge_index=wrong.edge_index, edge_type=torch.zeros(5).long()))
    with pytest.raises(ValueError, match="one type >= 0 a column, got -1"):
        as_batch(Data(x=wrong.x, edge_index=wrong.edge_index, edge_type=-torch.ones(6).long()))
    plain = Data(x=wrong.x, edge_index=wrong.edge_index)
    with pytest.raises(ValueError, match="must all have 'edge_type' or none, graph 1 has none and others have"):
        as_batch([triangle(), plain])
    model = typed_vae()
    with pytest.raises(ValueError, match="'graphs' must have 'edge_type', int64 in 0 to 1"):
        model.batch(plain)
    with pytest.raises(ValueError, match="'edge_type' must be in 0 to 1, as the model has it, got 2"):
        model.batch(triangle(types=(0, 1, 2)))
    with pytest.raises(ValueError, match="at least the size of every graph, got 2 for a graph of 3"):
        typed_vae(places=2).batch(triangle())
    with pytest.raises(ValueError, match="for DenseGraph, got x"):
        model.batch(Data(x=torch.full((3, 2), 0.5), edge_index=wrong.edge_index, edge_type=torch.zeros(6).long()))


def test_the_encoder_sees_types_and_the_likelihood_counts_them(double):
    model = typed_vae().double()
    one, other = triangle((0, 1, 1)), triangle((1, 1, 1))
    assert not torch.allclose(model.posterior(one).mean, model.posterior(other).mean)
    z = torch.randn(1, 2)
    assert not torch.allclose(model.log_likelihood(one, z), model.log_likelihood(other, z))
    torch.testing.assert_close(model.posterior([one, path()]).mean[:1], model.posterior(one).mean)


def test_images_of_typed_graphs_differ_by_their_types(double):
    def hashes(types):
        graph = as_batch(Data(edge_index=triangle().edge_index, edge_type=torch.tensor(types).repeat(2), num_nodes=3))
        return image_hashes(graph, every_order(graph)).flatten().unique().numel()

    assert [hashes((0, 0, 0)), hashes((0, 1, 1)), hashes((0, 1, 2))] == [1, 3, 6]


def test_bounds_over_orders_are_ordered_and_do_not_see_the_numbering(double):
    model = typed_vae(places=3).double()
    graphs = as_batch([triangle(), path()])
    noise = torch.randn(1, 2, 2)
    orders = every_order(graphs)
    every = image_bound(model, graphs, orders, noise=noise)
    one = image_bound(model, graphs, orders[:1], noise=noise)
    assert bool((one < every).all())
    decoded = permutation_bound(model, graphs, Uniform(), 6, replace=False, noise=noise)
    order = torch.tensor([1, 2, 0, 5, 3, 4])
    torch.testing.assert_close(image_bound(model, permute(graphs, order), orders, noise=noise), every)
    torch.testing.assert_close(
        permutation_bound(model, permute(graphs, order), Uniform(), 6, replace=False, noise=noise), decoded
    )


def test_scoring_many_orders_at_once_is_scoring_relabelled_graphs(double):
    model = typed_vae().double()
    graphs = as_batch([triangle(), path()])
    z = torch.randn(2, 2)
    orders = every_order(graphs)
    at_once = torch.stack([model.log_likelihood(relabelled(graphs, order[None]), z) for order in orders])
    q = model.posterior(graphs)
    noise = (z - q.mean) / q.stddev
    found = permutation_bound(model, graphs, Uniform(), 6, replace=False, noise=noise[None])
    weights = at_once + model.prior(q.layout).log_prob(z) - q.log_prob(z)
    torch.testing.assert_close(found, weights.logsumexp(0) - torch.tensor(6.0).log())


def test_a_typed_model_learns_samples_and_is_saved(tmp_path):
    model = typed_vae()
    graphs = [triangle(), path(), triangle((1, 1, 1)), path((0, 0))] * 8
    history = fit(model, graphs, epochs=60, batch_size=16, progress=False)
    assert history.objective[-1] > history.objective[0] + 2
    drawn = model.sample(20, 1)
    assert drawn.edge_type.shape == drawn.edge_index.shape[1:]
    assert bool(torch.isfinite(elbo(model, drawn)).all())
    assert bool(torch.isfinite(importance_bound(model, drawn, 3)).all())
    assert model.sample(20, 1, most_likely=True).num_graphs == 20
    graphvae.save(model, tmp_path / "model")
    again = graphvae.load(tmp_path / "model")
    torch.testing.assert_close(again.sample(20, 1).edge_type, drawn.edge_type)


@pytest.mark.parametrize("with_kinds", [False, True])
def test_automorphisms_keep_the_types_of_edges(with_kinds, double):
    source = torch.Generator().manual_seed(0)
    for _ in range(20):
        joined = torch.bernoulli(torch.full((5, 5), 0.6), generator=source).triu(1)
        types = torch.randint(2, (5, 5), generator=source).triu(1)
        once = joined.nonzero().T
        kinds = nn.functional.one_hot(torch.randint(2, (5,), generator=source), 2).double()
        graph = Data(edge_index=torch.cat([once, once.flip(0)], 1), num_nodes=5, x=kinds if with_kinds else None)
        graph.edge_type = types[once[0], once[1]].repeat(2)
        batch = as_batch(graph)
        same = sum(
            edge_classes(moved).equal(edge_classes(batch)) and (not with_kinds or moved.x.equal(batch.x))
            for moved in (permute(batch, order) for order in every_order(batch))
        )
        assert log_automorphisms(batch).exp().item() == pytest.approx(same)
        assert log_automorphisms_bound([graph, triangle()] if with_kinds else batch)[0].exp().item() >= same - 1e-9


def test_classes_of_typed_graphs_are_told_apart_in_every_convention(double):
    model = typed_vae(places=2, latent=1)
    kinds = torch.eye(2)
    total = 0.0
    for first, second in ((0, 0), (0, 1), (1, 1)):
        for types in (None, 0, 1):
            edges = torch.empty(2, 0).long() if types is None else torch.tensor([[0, 1], [1, 0]])
            found = torch.full((edges.size(1),), types or 0)
            graph = Data(x=kinds[[first, second]], edge_index=edges, edge_type=found)
            total += exact(model.double(), graph, Convention.ISOMORPHISM_CLASS).exp().item()
    for kind in (0, 1):
        alone = Data(x=kinds[[kind]], edge_index=torch.empty(2, 0).long(), edge_type=torch.empty(0).long())
        total += exact(model, alone, Convention.ISOMORPHISM_CLASS).exp().item()
    z = torch.linspace(-8, 8, 2001)[:, None]
    with torch.no_grad():
        empty = (-nn.functional.softplus(model.decoder(z).existence).sum(1)).exp()
    density = torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0]).exp()
    assert total + torch.trapezoid(empty * density, z[:, 0]).item() == pytest.approx(1, abs=1e-6)


def test_a_training_may_start_with_graphs_of_one_node():
    alone = Data(x=torch.tensor([[1.0, 0.0]]), edge_index=torch.empty(2, 0).long(), edge_type=torch.empty(0).long())
    fit(typed_vae(), [alone, alone, triangle()], epochs=1, batch_size=3, progress=False)


def test_a_decoder_to_places_is_told_to_depend_on_the_numbering(double):
    with pytest.raises(AssertionError, match="decoder DenseGraph must not change"):
        assert_permutation_invariant(typed_vae().double(), [triangle(), path()])


def test_breadth_first_orders_of_typed_graphs(double):
    model = typed_vae().double()
    assert bool(torch.isfinite(permutation_bound(model, [triangle(), path()], BreadthFirst(), 3)).all())


def test_a_decoder_stands_alone():
    decoder = DenseGraph(3, 2, 0.5)
    encoder = NormalEncoder(nn.Linear(2, 8), 8, 2, pool=SumAggregation())
    with pytest.raises(ValueError, match="'decoder' must be given alone"):
        GraphVAE(StandardNormal(2), encoder, edges=graphvae.edges.InnerProduct(0.5), decoder=decoder)
    with pytest.raises(ValueError, match="'encoder' must have 'pool'"):
        GraphVAE(StandardNormal(2), NormalEncoder(nn.Linear(2, 8), 8, 2), decoder=decoder)
    with pytest.raises(ValueError, match="'most_likely' must be False"):
        GraphVAE(StandardNormal(2), encoder, edges=graphvae.edges.InnerProduct(0.5)).sample(2, most_likely=True)


def untyped(graphs):
    """The same graphs without the types of their edges."""
    batch = as_batch(graphs)
    return batch_of(batch.x, batch.edge_index, batch.layout)


def pooled(columns, latent=1):
    return NormalEncoder(Nodewise(nn.Linear(columns, 4)), 4, latent, pool=SumAggregation())


def test_types_that_are_no_part_of_the_model_change_no_bound(double):
    """Of an image that is of edges and x, and of a decoder to places that knows two classes of pairs."""
    torch.manual_seed(0)
    graph = triangle((0, 1, 2), kinds=(1, 1, 1))
    over_nodes = GraphVAE(
        StandardNormal(2),
        NormalEncoder(Nodewise(nn.Linear(2, 4)), 4, 2),
        InnerProduct(0.5),
        BernoulliFeatures(Nodewise(nn.Linear(2, 4)), 4, 2),
    ).double()
    orders, noise = every_order(graph), torch.randn(1, 3, 2)
    of_both = (image_bound(over_nodes, graphs, orders, noise=noise) for graphs in (graph, untyped(graph)))
    torch.testing.assert_close(*of_both)
    at_places = GraphVAE(StandardNormal(1), pooled(2), decoder=DenseGraph(4, 1, 0.5, node_types=2)).double()
    nn.init.normal_(at_places.decoder.edges.weight)
    noise = torch.randn(2, 1)
    for bound in (elbo, matching_bound):
        of_both = (bound(at_places, graphs, noise=noise) for graphs in ([graph, path()], untyped([graph, path()])))
        torch.testing.assert_close(*of_both)


def test_types_are_part_of_the_graph_where_types_of_nodes_are_not(double):
    """A path with two types of edges has no automorphism, without its types it has two."""
    model = GraphVAE(StandardNormal(1), pooled(1), decoder=DenseGraph(3, 1, 0.5, edge_types=2)).double()
    nn.init.normal_(model.decoder.edges.weight)
    graph = Data(x=torch.ones(3, 1), edge_index=path().edge_index, edge_type=path().edge_type)
    orders, noise = every_order(graph), torch.zeros(1, 1, 1)
    every, distinct = (bound(model, graph, orders, noise=noise) for bound in (inner_bound, image_bound))
    torch.testing.assert_close(distinct, every)
    torch.testing.assert_close(
        exact(model, graph, Convention.ISOMORPHISM_CLASS), exact(model, graph, Convention.SUMMED)
    )


def test_automorphisms_of_typed_graphs_without_features():
    one_way = Data(edge_index=torch.tensor([[0], [1]]), edge_type=torch.tensor([0]), num_nodes=2)
    ends_differ = Data(edge_index=path().edge_index, edge_type=path().edge_type, num_nodes=3)
    for count in (log_automorphisms, log_automorphisms_bound):
        assert count(ends_differ).item() == 0
        assert count(one_way).item() == 0
