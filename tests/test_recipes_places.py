"""The GraphVAE of 2018, typed and not: it learns by matching, samples, and is saved."""

import pytest
import torch
from torch_geometric.data import Data

import graphvae
from graphvae import fit
from graphvae.backbones import GatedSum
from graphvae.bounds import matching_bound
from graphvae.datasets.small import atlas
from graphvae.recipes.fixed_order import with_degrees
from graphvae.recipes.places import places_vae


def test_gated_sums_are_those_of_the_formula(double):
    torch.manual_seed(0)
    pool, x = GatedSum(3, 2), torch.randn(5, 3)
    found = pool(x, torch.tensor([0, 0, 2, 2, 2]), dim_size=3)
    rows = torch.sigmoid(pool.gate(x)) * torch.tanh(pool.value(x))
    torch.testing.assert_close(found, torch.stack([rows[:2].sum(0), torch.zeros(2), rows[2:].sum(0)]))


def test_bare_graphs_are_learned_by_matching(tmp_path):
    graphs = with_degrees(atlas(4), 3)
    torch.manual_seed(0)
    model = places_vae(graphs, latent=4)
    history = fit(model, graphs, matching_bound, epochs=30, batch_size=9, progress=False)
    assert history.objective[-1] > history.objective[0] + 1
    drawn = model.sample(50, 0)
    assert max(drawn.layout.host_sizes) <= 4
    assert drawn.get("x") is None
    graphvae.save(model, tmp_path / "model")
    assert graphvae.load(tmp_path / "model").sample(50, 0).edge_index.equal(drawn.edge_index)


def test_typed_graphs_get_typed_decoders():
    x = torch.nn.functional.one_hot(torch.tensor([0, 2, 1])).float()
    graph = Data(x=x, edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), edge_type=torch.tensor([0, 0, 2, 2]))
    torch.manual_seed(0)
    model = places_vae([graph] * 8, latent=2, node_types=True, max_nodes=5)
    fit(model, [graph] * 8, matching_bound, epochs=20, batch_size=8, progress=False)
    drawn = model.sample(10, 0)
    assert drawn.x.shape[1] == 3
    assert drawn.edge_type.shape == drawn.edge_index.shape[1:]
    assert bool(torch.isfinite(matching_bound(model, drawn)).all())


def test_what_cannot_be_a_model_of_places_is_told():
    bare = atlas(4)
    graphs = with_degrees(bare, 3)
    with pytest.raises(ValueError, match="'train' must have node features 'x', got bare graphs; "):
        places_vae(bare)
    for name, value, message in (
        ("latent", -1, "positive, got -1"),
        ("max_nodes", 0, "positive, got 0"),
        ("max_nodes", 3, "at least the size of the largest graph, got 3 for one of 4 nodes"),
    ):
        with pytest.raises(ValueError, match=f"'{name}' must be {message}"):
            places_vae(graphs, **{name: value})
