"""The one-shot VAE of molecules: its rules, the course of its objective, and a short training to the end."""

import pytest
import torch
from accelerate import Accelerator

import graphvae

pytest.importorskip("rdkit", reason="molecules need rdkit: pip install 'graphvae[molecules]'")
pytest.importorskip("zuko", reason="flows need zuko: pip install 'graphvae[flows]'")

from graphvae.datasets import molecules
from graphvae.datasets.smiles import Alphabet, from_smiles
from graphvae.evaluation.molecules import evaluate
from graphvae.objectives import ValencePenalty
from graphvae.objectives.valences import connection_penalty, valence_penalty
from graphvae.placed import PlacedGraphs, edge_classes
from graphvae.recipes.comparison import Run
from graphvae.recipes.molecule_generators import METHODS, MoleculeTask
from graphvae.recipes.molecules import Course, molecule_vae, train, valence_limits

SMILES = [f"{a}{b}{c}" for a in ("C", "N", "O") for b in ("C", "CC", "C(C)C", "C(=O)") for c in ("C", "O", "N", "CC")]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("smiles") / "few.smi"
    path.write_text("\n".join(SMILES))
    return molecules(path)


def test_limits_are_those_of_chemistry():
    names = ("C", "N", "O", "F", "P", "S", "Cl", "N+", "O-", "O+", "C-")
    assert valence_limits(Alphabet(names)) == (4, 3, 2, 1, 5, 6, 1, 4, 1, 3, 3)


def test_real_molecules_break_no_rule(double):
    read = from_smiles(["CC(=O)[O-]", "C[NH3+]", "C#CC1CC1", "O=C=O", "c1ccccc1"])
    alphabet, graphs = read.alphabet, read.graphs
    classes = edge_classes(graphs).double()
    places = classes.size(1)
    later, earlier = torch.tril_indices(places, places, -1)
    existence = torch.where(torch.arange(places) < graphs.layout.sizes[:, None], 60.0, -60.0)
    edges = 60 * torch.nn.functional.one_hot(classes[:, earlier, later].long(), 4).double()
    nodes = 60 * graphs.layout.dense(graphs.x.double())[0]
    decoded = PlacedGraphs(existence, edges, nodes)
    torch.testing.assert_close(valence_penalty(decoded, valence_limits(alphabet), (1, 2, 3)), torch.zeros(5))
    torch.testing.assert_close(connection_penalty(decoded), torch.zeros(5))


def test_the_objective_changes_in_the_course_of_training():
    course = Course(Alphabet(("C", "O")), epochs=10, beta=0.4, weight=3.0)
    weights = [course.at(epoch).keywords["beta"] for epoch in range(1, 11)]
    assert weights == sorted(weights)
    assert weights[0] < 0.05
    assert weights[-1] == 0.4
    kinds = [isinstance(course.at(epoch).func, ValencePenalty) for epoch in range(1, 11)]
    assert kinds == [False] * 6 + [True] * 4
    assert not isinstance(Course(Alphabet(("C", "O")), 10, weight=0.0).at(10).func, ValencePenalty)


def test_a_short_training_goes_from_smiles_to_smiles(data, tmp_path):
    torch.manual_seed(0)
    model = molecule_vae(data, latent=8, hidden=64)
    history = train(model, data, epochs=60, batch_size=16, progress=False)
    assert history.objective[-1] > history.objective[0] + 5
    found = evaluate(model.sample(200, 0, most_likely=True), data.train_smiles, data.alphabet, fcd=False)
    assert found.valid > 0.5
    assert found.counts["unique"] > 5
    graphvae.save(model, tmp_path / "model")
    again = graphvae.load(tmp_path / "model").sample(20, 1)
    assert again.edge_index.equal(model.sample(20, 1).edge_index)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_is_a_step_in_small_sets_too(data, method):
    """A set smaller than a batch has one step in an epoch."""
    fitted = METHODS[method](MoleculeTask(data), Run(0, Accelerator(cpu=True), steps=4))
    assert fitted.numbers["epochs"] == 4


@pytest.mark.parametrize("method", METHODS)
def test_hydrocarbons(method, tmp_path):
    """One type of atoms, and of alkanes one of bonds."""
    path = tmp_path / "alkanes.smi"
    path.write_text("\n".join("C" * length + tail for length in range(2, 12) for tail in ("", "(C)C")))
    task = MoleculeTask(molecules(path))
    assert task.data.alphabet.atoms == ("C",)
    fitted = METHODS[method](task, Run(0, Accelerator(cpu=True), steps=60))
    found = task.evaluate(fitted.sample(50, torch.Generator().manual_seed(0)), torch.Generator())
    assert found["valid"] > 0.5
    with pytest.raises(ValueError, match="at least two kinds of bonds, for edges to have types, got single"):
        MoleculeTask(molecules(path, alphabet=Alphabet(("C",), ("single",))))
