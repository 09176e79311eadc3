"""Where the tokens of a prompt tree are computed: rows of one matrix, cut into tiles of equal size.

As attention keys a row sees no more than
  fixed columns   states no learnable vector has touched, computed once and kept (the start token;
  for 'front' the names too) trunk columns   the path that all prompts share, computed once per
  layer and shown to every tile own columns     the rows of its own tile
so one batched attention with one mask per tile is exact, and no key is repeated per class. The
price of equal shapes: tiles have empty tails, and a branch whose prompts lie in different tiles is
computed in each of them. Over the names of the eleven datasets that is 4 % of the rows for 'end', 6
% for 'middle', none for 'front', 5 % for class-specific contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmark.backbones.prompting.tree import PromptTree

Places = dict[int, int]  # node -> its place in a tile

TILE_SIZES = (16, 24, 32, 40, 48, 56, 64, 80, 96)  # rows per tile that are tried
EVEN_TILES = 6  # as are sizes that share all rows out evenly among up to so many tiles
# What a key column adds to the cost of a row (measured over tiles of 16 to 182 rows, width 512).
KEY_COST = 0.0007
COPY_COST = 0.01  # what copying a key per row adds, mostly in memory


@dataclass(frozen=True, eq=False)
class Tiling:
    """T = N tiles * B rows, trunk in the first rows; S = A fixed + trunk + B own key columns."""

    tile: int  # B
    trunk: int
    node_T: Tensor  # node of every row; -1 where a tile's tail is empty
    fixed_NA: Tensor  # nodes whose kept keys each tile sees; -1 is padding
    mask_NBS: Tensor  # True where a row may look
    read_K: Tensor  # per chosen prompt, the row it is read at

    @property
    def rows(self) -> int:
        return len(self.node_T)

    @property
    def columns(self) -> int:
        """Key columns over all tiles."""
        return len(self.mask_NBS) * self.mask_NBS.shape[2]


def tiling(tree: PromptTree, prompts: Sequence[int], keep_fixed: bool) -> Tiling:
    """The cheapest tiling found for the chosen prompts; with `keep_fixed`, nodes before learnable
    vectors become fixed columns.
    """
    parts = _Parts.of(tree, prompts, keep_fixed)
    by_length = sorted(range(len(prompts)), key=lambda i: -len(parts.own[i]))
    layouts = [
        _Layout.pack(parts, order, size)
        for size in parts.sizes()
        for order in (range(len(prompts)), by_length)
    ]
    return min(layouts, key=_Layout.cost).finish()


@dataclass(frozen=True)
class _Parts:
    """The chosen prompts' nodes by where they are computed."""

    paths: list[list[int]]
    stem: list[int]  # of the trunk what is computed: the first places of tile 0
    root: list[int]  # of the trunk what is kept: the first fixed columns of every tile
    fixed: list[list[int]]  # per prompt
    own: list[list[int]]  # per prompt

    @staticmethod
    def of(tree: PromptTree, prompts: Sequence[int], keep_fixed: bool) -> _Parts:
        paths, trunk = [tree.paths[p] for p in prompts], tree.trunk(prompts)
        kept = {n for path in paths for n in path if keep_fixed and not tree.learnable[n]}
        fixed = [[n for n in path if n in kept] for path in paths]
        own = [[n for n in path[len(trunk) :] if n not in kept] for path in paths]
        return _Parts(
            paths, [n for n in trunk if n not in kept], [n for n in trunk if n in kept], fixed, own
        )

    def sizes(self) -> list[int]:
        least = max(len(self.stem), max(map(len, self.own)))
        total = len(self.stem) + len({n for nodes in self.own for n in nodes})
        even = {
            -(-total // tiles) + slack for tiles in range(1, EVEN_TILES + 1) for slack in (0, 1, 2)
        }
        return sorted(
            {max(size, least) for size in TILE_SIZES}
            | {size for size in even if least <= size <= max(TILE_SIZES)}
        )


@dataclass(frozen=True)
class _Layout:
    """A tiling while it is being packed."""

    parts: _Parts
    size: int
    rows: list[Places]  # per tile, the nodes computed there
    fixed: list[Places]  # per tile, the fixed nodes seen
    home: dict[int, int]  # per prompt, its tile

    @staticmethod
    def pack(parts: _Parts, order: Sequence[int], size: int) -> _Layout:
        """First fit: a prompt goes to the newest tile, where its neighbours in the tree are, else
        to the first with room.
        """
        layout = _Layout(parts, size, [_places(parts.stem)], [_places(parts.root)], {})
        least, open_tiles = min(map(len, parts.own)), [0]
        for i in order:
            layout._place(i, open_tiles)
            open_tiles[:-1] = [t for t in open_tiles[:-1] if len(layout.rows[t]) + least <= size]
        return layout

    def _place(self, i: int, open_tiles: list[int]) -> None:
        own = self.parts.own[i]
        for t in (open_tiles[-1], *open_tiles):
            if len(self.rows[t]) + sum(n not in self.rows[t] for n in own) <= self.size:
                break
        else:
            t = len(self.rows)
            self.rows.append({})
            self.fixed.append(_places(self.parts.root))
            open_tiles.append(t)
        for nodes, seen in ((own, self.rows[t]), (self.parts.fixed[i], self.fixed[t])):
            for node in nodes:
                seen.setdefault(node, len(seen))
        self.home[i] = t

    @property
    def fixed_columns(self) -> int:
        return max(map(len, self.fixed))

    def cost(self) -> float:
        keys = self.fixed_columns + len(self.parts.stem) + self.size
        return len(self.rows) * self.size * (1 + KEY_COST * keys + COPY_COST * keys / self.size)

    def finish(self) -> Tiling:
        node_T = torch.tensor([_padded(rows, self.size) for rows in self.rows]).flatten()
        fixed_NA = torch.tensor(
            [_padded(fixed, self.fixed_columns) for fixed in self.fixed], dtype=torch.int64
        )
        read_K = torch.tensor(
            [self._row(self.home[i], path[-1]) for i, path in enumerate(self.parts.paths)]
        )
        return Tiling(self.size, len(self.parts.stem), node_T, fixed_NA, self._mask(), read_K)

    def _row(self, t: int, node: int) -> int:
        return self.rows[0][node] if node in self.parts.stem else t * self.size + self.rows[t][node]

    def _mask(self) -> Tensor:
        stem = {
            node: self.fixed_columns + position
            for node, position in _places(self.parts.stem).items()
        }
        shift = self.fixed_columns + len(stem)
        mask_TS = torch.zeros(len(self.rows) * self.size, shift + self.size, dtype=torch.bool)
        # A row in a tile's empty tail looks at itself, so that its softmax is finite; nobody looks
        # at it.
        mask_TS.view(len(self.rows), self.size, -1).diagonal(offset=shift, dim1=1, dim2=2).fill_(
            True
        )
        for i, path in enumerate(self.parts.paths):
            t = self.home[i]
            column_of = (
                self.fixed[t] | stem | {n: shift + self.rows[t][n] for n in self.parts.own[i]}
            )
            columns = [column_of[node] for node in path]
            for depth, node in enumerate(path):
                if node not in self.fixed[t]:
                    mask_TS[self._row(t, node), columns[: depth + 1]] = True
        for position in range(len(stem)):
            mask_TS[position, shift + position] = (
                False  # a trunk row sees itself through the trunk columns already
            )
        return mask_TS.view(len(self.rows), self.size, -1)


def _places(nodes: list[int]) -> Places:
    return {node: position for position, node in enumerate(nodes)}


def _padded(places: Places, length: int) -> list[int]:
    return [*places, *[-1] * (length - len(places))]
