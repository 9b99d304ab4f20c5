"""What rdkit reads in SMILES, as flat arrays of all molecules: quick to store, to choose from and to make graphs of."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
BONDS = ("single", "double", "triple")

UNREADABLE = "rdkit cannot read it"
PARTS = "more than one connected part"
NO_HEAVY_ATOM = "a hydrogen or wildcard as an atom of the graph"
OTHER_BOND = "a bond that is not single, double or triple"
RADICAL = "a radical"
HYDROGENS = "hydrogens other than the valence implies"

EMPTY, VALENCE, KEKULISATION = "no atom", "valence", "kekulisation"  # Why something is no molecule as it is.

_REPORTED = 256  # Rows between reports: a progress bar takes a tenth of the time of a row.
_TOKEN = re.compile(r"\[[^\]]+\]|Br|Cl|[BCNOPSFIbcnops*]")  # An atom in a canonical SMILES.
_OTHER_BONDS = re.compile(r"[~$<>]")  # Any, quadruple, dative.
_LABELLED = re.compile(r"\[\d|:\d+\]")  # Isotopes and atom maps.


class MoleculeTable(NamedTuple):
    """G molecules with N atoms and M bonds in all, kekulised and without hydrogens, and the rows that are none.

    Attributes:
        elements: `(N,)` atomic numbers, in the order of the canonical SMILES.
        charges: `(N,)` formal charges.
        atom_ptr: `(G + 1,)` first atom of each molecule.
        bonds: `(M, 2)` atoms of each bond, numbered within their molecule, the smaller number first; sorted.
        bond_types: `(M,)` places in `BONDS`.
        bond_ptr: `(G + 1,)` first bond of each molecule.
        rows: `(G,)` where the molecule stood in the source, from 0.
        smiles: `(G,)` bytes, canonical and without stereochemistry.
        left_rows: `(L,)` rows that are left out.
        left_reasons: `(L,)` why, in words.
    """

    elements: Array
    charges: Array
    atom_ptr: Array
    bonds: Array
    bond_types: Array
    bond_ptr: Array
    rows: Array
    smiles: Array
    left_rows: Array
    left_reasons: Array


class _Molecule(NamedTuple):
    smiles: str
    atoms: list[tuple[int, int]]
    bonds: Array
    types: Array


def rdkit(module: str = "Chem") -> ModuleType:
    """A module of rdkit.

    Raises:
        ImportError: rdkit is not installed; the message has the line that installs it.
    """
    try:
        return importlib.import_module(f"rdkit.{module}")
    except ImportError as error:
        raise ImportError("molecules need rdkit: pip install 'graphvae[molecules]'") from error


def parse(rows: Sequence[str], report: Callable[[int], object] | None = None) -> MoleculeTable:
    """Reads SMILES; what a table cannot hold is left out, each row with its reason.

    Args:
        rows: SMILES.
        report: Called now and then with the number of rows read.

    Raises:
        ImportError: rdkit is not installed.
    """
    known: dict[str, tuple[int, int]] = {}
    kept, left = [], []
    with rdkit("rdBase").BlockLogs():
        for row, smiles in enumerate(rows):
            found = _read(smiles, known)
            if isinstance(found, str):
                left.append((row, found))
            else:
                kept.append((row, found))
            if report is not None and row % _REPORTED == 0:
                report(row)
    return _table(kept, left)


def canonical(smiles: str) -> str | None:
    """The canonical SMILES without stereochemistry, isotopes and atom maps; None for what rdkit cannot read."""
    with rdkit("rdBase").BlockLogs():
        return _canonical(smiles)


def _canonical(smiles: str) -> str | None:
    chem = rdkit()
    molecule = chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        return None
    return _plain(molecule, _LABELLED.search(smiles) is not None)


def uncorrected(smiles: Sequence[str | None]) -> tuple[list[str | None], list[str | None]]:
    """The canonical SMILES of samples as they are, None for what rdkit cannot read or would correct, and then why.

    Else as `canonical`. A row that is None has been found to be no molecule before, and stays that.
    """
    with rdkit("rdBase").BlockLogs():
        found = [(None, UNREADABLE) if text is None else _uncorrected(text) for text in smiles]
    return [text for text, _ in found], [reason for _, reason in found]


def _uncorrected(smiles: str) -> tuple[str | None, str | None]:
    molecule = rdkit().MolFromSmiles(smiles, sanitize=False)
    if molecule is None or molecule.GetNumAtoms() == 0:
        return None, UNREADABLE
    reason = failure(molecule)
    if reason is not None:
        return None, reason
    hydrogens = "H" in smiles  # As atoms: they are removed in sanitising what is read, else not.
    return _plain(molecule, hydrogens or _LABELLED.search(smiles) is not None), None


def failure(molecule: Any) -> str | None:
    """Why rdkit's sanitisation, its clean-up steps left out, refuses a molecule; one it does not is sanitised."""
    flags, reasons = _checks()
    failed = rdkit().SanitizeMol(molecule, sanitizeOps=flags, catchErrors=True)
    return reasons.get(failed, str(failed)) if failed else None


@cache
def _checks() -> tuple[int, dict[Any, str]]:
    flags = rdkit().SanitizeFlags
    corrections = flags.SANITIZE_CLEANUP | flags.SANITIZE_CLEANUP_ORGANOMETALLICS
    return flags.SANITIZE_ALL & ~corrections, {
        flags.SANITIZE_PROPERTIES: VALENCE,
        flags.SANITIZE_KEKULIZE: KEKULISATION,
    }


def _plain(molecule: Any, labelled: bool) -> str:
    """The canonical SMILES of a sanitised molecule; `labelled` if it may have isotopes, atom maps or hydrogens."""
    chem = rdkit()
    if labelled:
        for atom in molecule.GetAtoms():
            atom.SetIsotope(0)
            atom.SetAtomMapNum(0)
        molecule = chem.RemoveHs(molecule, sanitize=False)  # Deuterium has become hydrogen.
    chem.RemoveStereochemistry(molecule)
    return str(chem.MolToSmiles(molecule))


def _read(smiles: str, known: dict[str, tuple[int, int]]) -> _Molecule | str:
    """A molecule, or why it is none; `known` has the element and charge of atoms as they are written."""
    chem = rdkit()
    text = _canonical(smiles)
    if text is None:
        return UNREADABLE
    if "." in text:
        return PARTS
    # Read anew, so that numbers and the choice among Kekulé structures are those of the canonical SMILES. It is known
    # to be sane, and rdkit takes half the time if it does not look again.
    molecule = chem.MolFromSmiles(text, sanitize=False)
    molecule.UpdatePropertyCache(strict=False)
    chem.Kekulize(molecule, clearAromaticFlags=True)
    atoms = _atoms(molecule, text, known)
    if min(atoms)[0] < 2:
        return NO_HEAVY_ATOM
    if _OTHER_BONDS.search(text):
        return OTHER_BOND
    reason = _unusual(molecule) if "[" in text else None
    if reason is not None:
        return reason
    orders = np.triu(chem.GetAdjacencyMatrix(molecule, useBO=True))
    bonds = np.argwhere(orders)
    return _Molecule(text, atoms, bonds, orders[bonds[:, 0], bonds[:, 1]] - 1)


def _atoms(molecule: Any, text: str, known: dict[str, tuple[int, int]]) -> list[tuple[int, int]]:
    """Element and charge of each atom, from the text where it can be: asking rdkit takes ten times as long."""
    tokens = _TOKEN.findall(text)
    if len(tokens) != molecule.GetNumAtoms():
        return [(atom.GetAtomicNum(), atom.GetFormalCharge()) for atom in molecule.GetAtoms()]
    for place, token in enumerate(tokens):
        if token not in known:
            atom = molecule.GetAtomWithIdx(place)
            known[token] = (atom.GetAtomicNum(), atom.GetFormalCharge())
    return [known[token] for token in tokens]


def _unusual(molecule: Any) -> str | None:
    """Whether hydrogens are not those that elements, charges and bonds imply, which are all that a graph keeps."""
    rdkit().AssignRadicals(molecule)
    written = [atom for atom in molecule.GetAtoms() if atom.GetNoImplicit()]
    if any(atom.GetNumRadicalElectrons() for atom in written):
        return RADICAL
    hydrogens = [atom.GetTotalNumHs() for atom in written]
    for atom in written:
        atom.SetNumExplicitHs(0)
        atom.SetNoImplicit(False)
    molecule.UpdatePropertyCache(strict=False)
    return None if hydrogens == [atom.GetTotalNumHs() for atom in written] else HYDROGENS


def _table(kept: Sequence[tuple[int, _Molecule]], left: Sequence[tuple[int, str]]) -> MoleculeTable:
    molecules = [molecule for _, molecule in kept]
    atoms = np.array([atom for molecule in molecules for atom in molecule.atoms], np.int16).reshape(-1, 2)
    return MoleculeTable(
        elements=atoms[:, 0],
        charges=atoms[:, 1],
        atom_ptr=_ptr(len(molecule.atoms) for molecule in molecules),
        bonds=np.concatenate([np.empty((0, 2)), *(molecule.bonds for molecule in molecules)]).astype(np.int16),
        bond_types=np.concatenate([np.empty(0), *(molecule.types for molecule in molecules)]).astype(np.int16),
        bond_ptr=_ptr(len(molecule.bonds) for molecule in molecules),
        rows=np.array([row for row, _ in kept], np.int64),
        smiles=np.array([molecule.smiles for molecule in molecules], np.bytes_),
        left_rows=np.array([row for row, _ in left], np.int64),
        left_reasons=np.array([reason for _, reason in left], np.str_),
    )


def _ptr(counts: Iterable[int]) -> Array:
    return np.cumsum([0, *counts], dtype=np.int64)
