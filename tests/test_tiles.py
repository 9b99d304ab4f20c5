import pytest
import torch

from conftest import SIZES
from graphvae import tiles as module
from graphvae.layout import Layout
from graphvae.tiles import tiles


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{len(sizes)}x{max(sizes)}")
def test_tiles_cover_every_pair_exactly_once(sizes, directed):
    layout = Layout.of(sizes)
    count = torch.zeros(layout.num_rows, layout.num_rows, dtype=torch.long)
    for tile in tiles(layout, directed):
        scores = tile.penalised(torch.zeros(*tile.rows.shape, tile.cols.size(1)))
        assert ((scores == 0) | (scores == -torch.inf)).all()
        block, row, column = (scores == 0).nonzero(as_tuple=True)
        count.index_put_((tile.rows[block, row], tile.cols[block, column]), torch.tensor(1), accumulate=True)
        assert torch.equal(layout.batch[tile.rows[:, 0]], tile.graphs)
    same = layout.batch[:, None] == layout.batch
    expected = same & ~torch.eye(layout.num_rows, dtype=torch.bool)
    assert torch.equal(count, (expected if directed else expected.triu(1)).long())


def test_padding_stays_below_its_stated_share():
    for size in range(2, module.TILE + 1):
        width = next(w for w in module._WIDTHS if w >= size)
        assert 1 - size**2 / width**2 <= 5 / 9
