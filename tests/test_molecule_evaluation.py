"""Validity, uniqueness, novelty and distances of sets of molecules, on sets whose numbers are known."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch_geometric.data import Data

from graphvae.datasets.molecules import Molecules
from graphvae.datasets.smiles import from_smiles
from graphvae.evaluation.molecules import DISCONNECTED, distances, evaluate, honesty
from graphvae.graphs import as_batch

pytest.importorskip("rdkit", reason="molecules need rdkit: pip install 'graphvae[molecules]'")


def graphs_of(*smiles):
    read = from_smiles(smiles)
    return read.graphs, read.alphabet


def broken(smiles):
    """Graphs of SMILES, and then: one with a carbon of valence 5, and one of two parts."""
    graphs, alphabet = graphs_of(*smiles, "CC(C)(C)C", "CCO")
    parts = graphs.to_data_list()
    parts[-2].edge_type[:2] = 1  # Both directions of the first bond become double.
    parts[-1].edge_index, parts[-1].edge_type = parts[-1].edge_index[:, 2:], parts[-1].edge_type[2:]
    return as_batch(parts), alphabet


def test_shares_of_a_set_that_is_known():
    samples, alphabet = broken(["CO", "CO", "OC", "CCN", "CC"])
    found = evaluate(samples, ["CC", "CCC"], alphabet, fcd=False)
    assert found.counts == {"sanitised": 6, "valid": 5, "unique": 3, "novel": 2, "vun": 2}
    assert found.num_graphs == 7
    assert (found.sanitised, found.valid, found.unique) == (6 / 7, 5 / 7, 3 / 5)
    assert (found.novel, found.vun) == (2 / 3, 2 / 7)
    assert found.failures == {"valence": 1, DISCONNECTED: 1}
    assert found.distances == {}
    for name, (low, high) in found.intervals.items():
        assert 0 <= low < getattr(found, name) < high <= 1


def test_it_is_the_same_whatever_molecules_are_given_as():
    samples, alphabet = graphs_of("CO", "c1ccccc1", "CC#N", "CO")
    train, _ = graphs_of("Cc1ccccc1", "N#CC", "O")
    known, other_alphabet = graphs_of("CC#N", "C")
    assert other_alphabet != alphabet
    rows = [
        evaluate(one, other, alphabet, reference=["CO", "CCC"], fcd=False).row()
        for one in (samples, samples.to_data_list(), ["OC", "C1=CC=CC=C1", "N#CC", "CO"])
        for other in (["CC#N", "C"], ["N#CC", "C"], from_smiles(["N#CC", "C"], alphabet).graphs)
    ]
    assert all(row == rows[0] for row in rows)
    assert rows[0]["counts"]["vun"] == 2
    assert train.num_graphs == 3
    assert known.num_graphs == 2


def test_aromatic_rings_are_counted_by_molecule():
    found = evaluate(["c1ccccc1", "C1CCCCC1", "c1ccc2ccccc2c1", "C1=CC=CN1", "c1ccccc1.C", "x"], ["C"], fcd=False)
    assert found.aromatic == 3 / 4
    assert found.row()["aromatic"] == 3 / 4


def test_nothing_valid():
    found = evaluate(["x", None, "C.C"], ["C"], reference=["CC"], fcd=False)
    assert found.aromatic is None
    assert (found.valid, found.unique, found.novel, found.vun) == (0, None, None, 0)
    assert found.sanitised == 1 / 3
    assert found.failures == {"rdkit cannot read it": 2, DISCONNECTED: 1}
    assert found.distances == {}
    assert set(found.intervals) == {"sanitised", "valid", "vun"}
    json.dumps(found.row(), allow_nan=False)


def test_intervals_are_wilsons():
    """Against the roots of (p - share)² = z² p (1 - p) / n, which define them."""
    found = evaluate(["C"] * 7 + [None] * 3, ["O"], fcd=False)
    for end in found.intervals["valid"]:
        assert (end - 0.7) ** 2 == pytest.approx(1.959964**2 * end * (1 - end) / 10, rel=1e-5)
    low, high = evaluate(["C"] * 10, ["O"], fcd=False).intervals["valid"]
    assert high == 1
    assert 0.7 < low < 0.73


def test_distances_by_hand():
    found = distances(["CC", "C1CC1"], ["CC", "C#N"])
    assert found["sizes"] == 0.5
    assert found["atoms"] == pytest.approx(1 / 4)  # 5 of 5 carbon; 3 of 4.
    assert found["bonds"] == pytest.approx(1 / 2)  # Single all; one of two.
    assert found["rings"] == 0.5
    assert set(distances(["CCO", "c1ccccc1"], ["c1ccccc1", "OCC"]).values()) == {0.0}
    assert distances(["C"], ["CC"])["bonds"] == 1
    assert distances(["C"], ["O"])["bonds"] == 0


def test_only_valid_samples_are_compared():
    samples, alphabet = broken(["CO"])
    assert set(evaluate(samples, ["O"], alphabet, reference=["CO"], fcd=False).distances.values()) == {0.0}


def test_what_rdkit_would_correct_is_not_sanitised():
    """As text or as graph; training molecules are read as data sets are."""
    _, alphabet = graphs_of("CN", "C=O")
    x = torch.eye(3)[[0, 1, 2, 2]]
    ends = torch.tensor([[0, 1, 1, 2, 1, 3], [1, 0, 2, 1, 3, 1]])
    nitro = Data(x=x, edge_index=ends, edge_type=torch.tensor([0, 0, 1, 1, 1, 1]))
    for samples in (["CN(=O)=O"], [nitro]):
        found = evaluate(samples, ["CN(=O)=O"], alphabet, fcd=False)
        assert found.sanitised == 0
        assert found.failures == {"valence": 1}
    assert evaluate(["C[N+](=O)[O-]"], ["CN(=O)=O"], fcd=False).novel == 0


def test_what_is_known_is_never_novel():
    """One training molecule among 200 that is not written canonically, and not where anybody looks first."""
    train = ["CCO"] * 100 + ["NCC"] + ["CCO"] * 99
    assert evaluate(["CCN"], train, fcd=False).novel == 0
    assert evaluate(["CCN"], train, fcd=False, canonical=True).novel == 1  # So much for what is not true.
    assert evaluate(["CCN"], ["CCN"], fcd=False, canonical=True).novel == 0


def test_what_must_be_given():
    samples, alphabet = graphs_of("CO")
    with pytest.raises(ValueError, match="'alphabet' must say what the types of 'samples'"):
        evaluate(samples, ["CO"])
    with pytest.raises(ValueError, match="'samples' must hold at least one"):
        evaluate([], ["CO"])
    with pytest.raises(TypeError, match="'train' must be graphs or a list of SMILES"):
        evaluate(samples, "CO", alphabet)
    with pytest.raises(TypeError, match=r"'samples\[0\]' must be a SMILES \(str\), None or a graph, got nan"):
        evaluate([float("nan")], ["CO"])
    with pytest.raises(TypeError, match=r"'samples\[1\]' must be a graph, as the first is, got 'CO'"):
        evaluate([*samples.to_data_list(), "CO"], ["CO"], alphabet)
    for name in ("train", "reference"):
        given = {"train": ["CO"], "reference": ["CO"]}
        with pytest.raises(ValueError, match=f"'{name}' must hold at least one molecule, got none"):
            evaluate(samples, **given | {name: []}, alphabet=alphabet)
        for wrong in ("x", "", None):
            with pytest.raises(ValueError, match=f"'{name}' must hold molecules, its row 2 is {wrong!r}"):
                evaluate(samples, **given | {name: ["CO", wrong, "y"]}, alphabet=alphabet)
    broken_train, letters = broken(["CO"])
    with pytest.raises(ValueError, match=r"'train' must hold molecules, its row 2 is a graph that is none \(valence\)"):
        evaluate(["CO"], broken_train, letters)
    del samples.edge_type
    with pytest.raises(ValueError, match="'edge_type'"):
        evaluate(samples, ["CO"], alphabet)


def test_fcd_where_its_package_is(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = evaluate(["CO", "CC"], ["O"], reference=["C", "CO"])
    assert found.fcd.value is None
    assert "pip install fcd" in found.row()["fcd_note"]
    monkeypatch.undo()
    seen = []
    fake = SimpleNamespace(get_fcd=lambda one, other: seen.append((one, other)) or 1.5, __spec__=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "fcd", fake)
    found = evaluate(["CO", "CC", "x"], ["O"], reference=["C", "CO"])
    assert found.fcd.value == 1.5
    assert seen == [(["CO", "CC"], ["C", "CO"])]
    assert evaluate(["CO", "x"], ["O"], reference=["C", "CO"]).fcd.value is None
    assert evaluate(["CO", "CC"], ["O"], reference=["C", "CO"], fcd=False).fcd.value is None
    assert len(seen) == 1


def test_rows_that_keep_others_honest():
    texts = ["C", "CC", "CCC", "CCCC", "CO"], ["CCO", "O"], ["N", "CCCC"]
    parts = [from_smiles(part, from_smiles([text for part in texts for text in part]).alphabet) for part in texts]
    train, val, test = (part.graphs for part in parts)
    data = Molecules("few", train, val, test, parts[0].alphabet, *texts, left_out={}, source="")
    rows, test_in_train = honesty(data, num_graphs=4, fcd=False)
    by_method = {row["method"]: row for row in rows}
    assert test_in_train == 0.5
    copied = by_method["train set copied"]
    assert (copied["num_graphs"], copied["valid"], copied["novel"], copied["vun"]) == (4, 1, 0, 0)
    assert by_method["held-out molecules"]["vun"] == 1
    assert by_method["held-out molecules"]["distances"]["atoms"] > 0
    assert by_method["oracle"]["valid"] is None
    assert "no process" in by_method["oracle"]["note"]
    with pytest.raises(ValueError, match="'num_graphs'"):
        honesty(data, num_graphs=0)


def test_graphs_on_their_way_are_left_as_they_were():
    samples, alphabet = graphs_of("CO", "CC")
    before = samples.x.clone(), samples.edge_index.clone()
    evaluate(samples, ["O"], alphabet, fcd=False)
    assert torch.equal(samples.x, before[0])
    assert torch.equal(samples.edge_index, before[1])
