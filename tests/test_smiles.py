"""SMILES to graphs and back."""

import pytest
import torch
from torch_geometric.data import Data

from graphvae.datasets.chemistry import (
    HYDROGENS,
    NO_HEAVY_ATOM,
    OTHER_BOND,
    PARTS,
    RADICAL,
    UNREADABLE,
    canonical,
    uncorrected,
)
from graphvae.datasets.smiles import OUTSIDE, TOO_LARGE, Alphabet, drawing, from_smiles, to_smiles, written
from graphvae.graphs import Selector, as_batch, batch_of, relabelled
from graphvae.layout import Layout

Chem = pytest.importorskip("rdkit.Chem", reason="molecules need rdkit: pip install 'graphvae[molecules]'")
ORGANIC = Alphabet(("C", "N", "O", "F", "N+", "O-"))
HARD = {
    "nitro": "CC[N+](=O)[O-]",
    "aromatic N with H": "c1cc[nH]c1",
    "triple bonds": "C#CC#N",
    "zwitterion": "[NH3+]CC(=O)[O-]",
    "aromatic cation": "C[n+]1ccccc1",
    "isocyanide": "C[N+]#[C-]",
    "azide": "CN=[N+]=[N-]",
    "ammonium": "[NH4+]",
    "methane": "C",
    "fused rings": "c1ccc2c(c1)[nH]c1ccccc12",
    "cage": "C1C2C3C1C23",
    "sulfone": "CS(C)(=O)=O",
}


def molecule(atoms, bonds, alphabet=ORGANIC):
    """A graph of names of atoms and `(first, second, type)` bonds."""
    ends = torch.tensor([bond[:2] for bond in bonds]).reshape(-1, 2).T
    x = torch.zeros(len(atoms), len(alphabet.atoms))
    x[range(len(atoms)), [alphabet.atoms.index(name) for name in atoms]] = 1
    kinds = torch.tensor([bond[2] for bond in bonds], dtype=torch.long)
    return Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], 1).long(), edge_type=kinds.repeat(2))


@pytest.mark.parametrize("smiles", HARD.values(), ids=HARD.keys())
def test_there_and_back(smiles):
    read = from_smiles([smiles])
    expected = Chem.MolToSmiles(Chem.MolFromSmiles(smiles), isomericSmiles=False)
    assert read.smiles == to_smiles(read.graphs, read.alphabet) == [expected]


def test_a_graph_says_what_the_molecule_is():
    read = from_smiles(["N#CC(=O)[O-]"])
    graph = read.graphs.to_data_list()[0]
    names = [read.alphabet.atoms[k] for k in graph.x.argmax(1)]
    bonds = {
        (names[i], names[j]): int(t) for (i, j), t in zip(graph.edge_index.T.tolist(), graph.edge_type, strict=True)
    }
    assert read.alphabet.atoms == ("C", "N", "O", "O-")
    assert bonds == {
        ("N", "C"): 2,
        ("C", "N"): 2,
        ("C", "C"): 0,
        ("C", "O"): 1,
        ("O", "C"): 1,
        ("C", "O-"): 0,
        ("O-", "C"): 0,
    }
    assert graph.x.dtype == torch.float32
    assert graph.edge_type.dtype == torch.int64


def test_one_molecule_has_one_graph():
    """However it was written, stereochemistry, isotopes, atom maps and Kekulé structures included."""
    ways = ["OC(=O)c1ccccc1F", "C1(F)=CC=CC=C1C(O)=O", "C1(F)C=CC=CC=1C(O)=O", "O=C(O)c1c(F)cc([2H])c[13cH]1"]
    ways.append("[OH:1]C(=O)c1ccccc1F")
    read = from_smiles(ways)
    first, *others = read.graphs.to_data_list()
    assert len(others) == 4
    for other in others:
        for name in ("x", "edge_index", "edge_type"):
            assert torch.equal(first[name], other[name]), name
    assert len(set(from_smiles(["F/C=C/F", r"F/C=C\F", "C[C@H](N)O", "C[C@@H](N)O"]).smiles)) == 2


def test_the_batch_passes_the_checks_of_its_graphs():
    """The batch is made unchecked of flat arrays; PyG's collation of the same graphs, checked, is the same."""
    batch = from_smiles(["CCO", "C", "c1ccncc1", "O", "CC#N"]).graphs
    again = as_batch([Data(**graph.to_dict()) for graph in batch.to_data_list()])
    for name in ("x", "edge_index", "edge_type", "ptr", "batch"):
        assert torch.equal(batch[name], again[name]), name
    assert batch.layout.sizes.tolist() == [3, 1, 6, 1, 3]
    assert not batch.layout.one_row_each
    assert from_smiles(["C", "O"]).graphs.layout.one_row_each


def test_numbering_is_of_no_account(batch_of_acids):
    read, generator = batch_of_acids, torch.Generator().manual_seed(0)
    order = torch.cat([
        start + torch.randperm(int(size), generator=generator)
        for start, size in zip(read.graphs.ptr, read.graphs.layout.sizes, strict=False)
    ])  # fmt: skip
    assert to_smiles(relabelled(read.graphs, order[None]), read.alphabet) == read.smiles


@pytest.fixture
def batch_of_acids():
    return from_smiles(["CC(=O)O", "O=C(O)c1ccccc1", "NCC(=O)O", "C#CC(=O)[O-]"])


def test_a_part_of_a_batch(batch_of_acids):
    read = batch_of_acids
    assert to_smiles(Selector(read.graphs)([2, 0, 2]), read.alphabet) == [read.smiles[k] for k in (2, 0, 2)]


@pytest.mark.parametrize(
    ("smiles", "reason"),
    [
        ("not a molecule", UNREADABLE),
        ("", UNREADABLE),
        ("C(C)(C)(C)(C)C", UNREADABLE),
        ("[Na+].[Cl-]", PARTS),
        ("[H][H]", NO_HEAVY_ATOM),
        ("*C", NO_HEAVY_ATOM),
        ("C->[Fe]", OTHER_BOND),
        ("[CH3]", RADICAL),
        ("C[CH]C", RADICAL),
        ("[SH4]", HYDROGENS),
    ],
)
def test_what_is_left_out_says_why(smiles, reason):
    read = from_smiles(["CC", smiles, "CO", smiles])
    assert read.left_out == {reason: [1, 3]}
    assert read.rows.tolist() == [0, 2]
    assert read.smiles == ["CC", "CO"]


def test_strict_names_the_row_and_the_value():
    with pytest.raises(ValueError, match=r"'smiles\[1\]' must be a molecule .* got 'C\(': rdkit cannot read it"):
        from_smiles(["CC", "C(", "x"], strict=True)
    assert from_smiles(["CC"], strict=True).left_out == {}


def test_alphabet_and_size_are_limits():
    read = from_smiles(["CCCl", "CCO", "CCCCCC", "C#N", "CCCCCl"], Alphabet(("O", "C"), ("single",)), max_atoms=4)
    assert read.left_out == {OUTSIDE: [0, 3], TOO_LARGE: [2, 4]}
    assert to_smiles(read.graphs, read.alphabet) == ["CCO"]
    assert read.graphs.x.tolist() == [[0, 1], [0, 1], [1, 0]]
    inferred = from_smiles(["CCCCCl", "CO"], max_atoms=2)
    assert inferred.alphabet.atoms == ("C", "O")


@pytest.mark.parametrize("rows", [[], ["x"], ["x", "y"]])
def test_an_empty_set_is_an_error(rows):
    with pytest.raises(ValueError, match="must hold"):
        from_smiles(rows)
    with pytest.raises(ValueError, match="row 1, 'CC': an atom or bond outside the alphabet"):
        from_smiles(["CC", "C"], Alphabet(("O",)))
    with pytest.raises(TypeError, match=r"'smiles\[1\]' must be a SMILES, a str, got None"):
        from_smiles(["CCO", None])


def test_nothing_is_corrected():
    star = [(0, k, 0) for k in range(1, 6)]
    pentavalent = molecule(["C"] * 6, star)
    ring = molecule(["C"] * 3, [(0, 1, 0), (1, 2, 0), (2, 0, 2)])  # A triple bond in a ring of three is no error.
    nitro = molecule(["C", "N", "O", "O"], [(0, 1, 0), (1, 2, 1), (1, 3, 1)])
    charged = molecule(["C", "N+", "O", "O-"], [(0, 1, 0), (1, 2, 1), (1, 3, 0)])
    two = molecule(["C", "O", "F"], [(0, 1, 0)])
    graphs = [pentavalent, ring, nitro, charged, two, molecule(["F", "F", "F"], [(0, 1, 0), (1, 2, 0)])]
    assert Chem.MolFromSmiles("CN(=O)=O") is not None  # What rdkit would have done.
    assert written(graphs, ORGANIC) == (
        [None, "C1#CC1", None, "C[N+](=O)[O-]", "CO.F", None],
        ["valence", None, "valence", None, None, "valence"],
    )
    assert to_smiles(graphs, ORGANIC) == [None, "C1#CC1", None, "C[N+](=O)[O-]", "CO.F", None]
    assert to_smiles(graphs, ORGANIC, connected=True) == [None, "C1#CC1", None, "C[N+](=O)[O-]", None, None]


def test_samples_as_text_are_judged_as_the_same_graphs_are():
    """The text of a graph, written without a look at it, passes and fails as the graph does, for the same reason."""
    nitro = molecule(["C", "N", "O", "O"], [(0, 1, 0), (1, 2, 1), (1, 3, 1)])
    star = molecule(["C"] * 6, [(0, k, 0) for k in range(1, 6)])
    two = molecule(["C", "O", "F"], [(0, 1, 0)])
    texts = ["CN(=O)=O", "C(C)(C)(C)(C)C", "F.OC"]
    assert canonical(texts[0]) is not None  # Read as a data set is.
    assert uncorrected(texts) == written([nitro, star, two], ORGANIC)
    assert uncorrected([None, "x", ""]) == ([None] * 3, [UNREADABLE] * 3)


@pytest.mark.parametrize("smiles", [*HARD.values(), "[H]C([H])O", "[2H]OC", "[CH3:1]O", "F/C=C/F", "C1=CC=CN1", "CC*"])
def test_what_needs_no_correction_is_read_as_ever(smiles):
    assert uncorrected([smiles]) == ([canonical(smiles)], [None])


def test_a_graph_without_nodes_is_no_molecule():
    """A model may give one, in a batch that is its own."""
    x = torch.eye(len(ORGANIC.atoms))[[0, 0, 2]]
    ends = torch.tensor([[0, 1], [1, 0]])
    graphs = batch_of(x, ends, Layout.of([2, 0, 1]), edge_type=torch.zeros(2, dtype=torch.long))
    assert written(graphs, ORGANIC) == (["CC", None, "O"], [None, "no atom", None])


def test_all_that_is_written_can_be_read():
    """Random graphs: what passes is a molecule that rdkit reads, and canonical."""
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for _ in range(200):
        pairs = torch.combinations(torch.arange(4))
        bonds = torch.cat([pairs, torch.randint(8, (6, 1), generator=generator) - 5], 1)
        atoms = [ORGANIC.atoms[k] for k in torch.randint(6, (4,), generator=generator)]
        graphs.append(molecule(atoms, [bond for bond in bonds.tolist() if bond[2] >= 0]))
    texts = [text for text in to_smiles(graphs, ORGANIC) if text is not None]
    assert 20 < len(texts) < 150
    assert [canonical(text) for text in texts] == texts


def test_what_graphs_must_be():
    good = molecule(["C", "O"], [(0, 1, 1)])
    with pytest.raises(ValueError, match=r"'edge_type'.*edge factor with edge types"):
        to_smiles(Data(x=good.x, edge_index=good.edge_index), ORGANIC)
    with pytest.raises(ValueError, match=r"column for each of the 2 atoms.*got 6 columns"):
        to_smiles(good, Alphabet(("C", "O")))
    with pytest.raises(ValueError, match="got none"):
        to_smiles(Data(edge_index=good.edge_index, edge_type=good.edge_type, num_nodes=2), ORGANIC)
    with pytest.raises(ValueError, match="'edge_type' must be below the 1 bonds, got 1"):
        to_smiles(good, Alphabet(ORGANIC.atoms, ("single",)))
    good.x[0, 0] = 0.5
    with pytest.raises(ValueError, match="one-hot"):
        to_smiles(good, ORGANIC)
    with pytest.raises(TypeError, match="list of SMILES"):
        from_smiles("CC")


@pytest.mark.parametrize("atoms", [(), ("C", "C"), ("c",), ("C+0",), ("C++",)])
def test_names_of_atoms(atoms):
    with pytest.raises(ValueError, match="'atoms' must be"):
        Alphabet(atoms)


def test_an_alphabet_in_and_out_of_json():
    alphabet = Alphabet(["C", "Fe+2", "O-"], ["double", "single"])
    assert alphabet == Alphabet(("C", "Fe+2", "O-"), ("double", "single"))
    assert alphabet.codes == ((6, 0), (26, 2), (8, -1))
    with pytest.raises(ValueError, match="'bonds' must be"):
        Alphabet(("C",), ("single", "quadruple"))
    with pytest.raises(ValueError, match="names of elements, got 'Zz'"):
        _ = Alphabet(("Zz",)).codes


def test_a_picture():
    assert drawing(["CCO", "c1ccccc1"], columns=2).size == (400, 200)
    with pytest.raises(ValueError, match="got 'x'"):
        drawing(["CC", "x"])
