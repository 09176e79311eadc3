"""Which tokens of many prompts are the same token: pure index work, no model.

In a causal tower a token's state depends on its own path from the root alone, so prompts that begin alike share states. The
prompts become a tree with one node per distinct path; nodes to be computed are laid out as the rows of one matrix, cut into
tiles of equal size. A row sees, as attention keys, only
  fixed columns   states no learnable token has touched, computed once and kept (the start token; for 'front' the names too)
  trunk columns   the path all prompts share, computed once per layer and shown to every tile
  own columns     the rows of its own tile
so an ordinary batched attention with one mask per tile is exact, and nothing is expanded per class. A branch shared by
prompts in different tiles is repeated once per tile.

A symbol is a token id (>= 0) or a learnable vector: -1 - its row in the context matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Prompt = tuple[int, ...]  # the symbols of one prompt, from the first token to the one it is read at

TILE_SIZES = (16, 24, 32, 40, 48, 56, 64, 80, 96)  # rows per tile that are tried
KEY_COST = 0.0015  # what one key column adds to the cost of a row, in units of that row's matrix products (measured, width 512)


@dataclass(frozen=True)
class PromptTree:
    """Distinct paths over symbols. Node n has `symbols[n]` at position `depths[n]`; `learnable[n]`: a learnable vector lies on its path."""

    symbols: list[int]
    depths: list[int]
    learnable: list[bool]
    paths: list[list[int]]  # per distinct prompt, its nodes from the root to where it is read

    @staticmethod
    def grow(prompts: Sequence[Prompt]) -> PromptTree:
        tree = PromptTree([], [], [], [])
        node_of: dict[tuple[int, int], int] = {}
        for prompt in prompts:
            path: list[int] = []
            for symbol in prompt:
                parent = path[-1] if path else -1
                path.append(node_of.setdefault((parent, symbol), len(tree.symbols)))
                if path[-1] == len(tree.symbols):
                    tree._add(parent, symbol)
            tree.paths.append(path)
        return tree

    def _add(self, parent: int, symbol: int) -> None:
        self.symbols.append(symbol)
        self.depths.append(0 if parent < 0 else self.depths[parent] + 1)
        self.learnable.append(symbol < 0 or (parent >= 0 and self.learnable[parent]))

    def trunk(self, classes: Sequence[int]) -> list[int]:
        """The nodes all chosen prompts begin with."""
        first, *others = [self.paths[c] for c in classes]
        length = len(first)
        for path in others:
            while path[:length] != first[:length]:
                length -= 1
        return first[:length]

    def fixed(self) -> PromptTree:
        """The same nodes; of each prompt only what comes before its first learnable vector."""
        paths = {tuple(n for n in path if not self.learnable[n]) for path in self.paths}
        return PromptTree(self.symbols, self.depths, self.learnable, [list(path) for path in sorted(paths)])


@dataclass(frozen=True, eq=False)
class Tiling:
    """Rows of one token matrix: T = n_tiles * tile rows, the trunk first; S = fixed + trunk + tile key columns."""

    tile: int
    trunk: int  # rows 0 .. trunk - 1, which all tiles see
    node_T: Tensor  # node of every row; -1 where a tile's tail is empty
    fixed_NA: Tensor  # nodes whose kept keys each tile sees; -1 is padding
    mask_NBS: Tensor  # True where a row may look
    read_K: Tensor  # per chosen prompt, the row it is read at

    @property
    def rows(self) -> int:
        return len(self.node_T)


def tiling(tree: PromptTree, classes: Sequence[int], keep_fixed: bool) -> Tiling:
    """The cheapest tiling of the chosen prompts; `keep_fixed` leaves nodes without a learnable vector to the kept keys."""
    layouts = [_Layout.pack(tree, classes, keep_fixed, size) for size in _sizes(tree, classes, keep_fixed)]
    return min(layouts, key=_Layout.cost).finish()


def _sizes(tree: PromptTree, classes: Sequence[int], keep_fixed: bool) -> list[int]:
    trunk = set(tree.trunk(classes))
    kept = [[n for n in tree.paths[c] if not keep_fixed or tree.learnable[n]] for c in classes]
    stem = len([n for n in kept[0] if n in trunk])
    longest = max(len(path) for path in kept)
    total = len({n for path in kept for n in path})
    return sorted({max(size, longest, stem) for size in TILE_SIZES} | ({total} if total <= max(TILE_SIZES) else set()))


@dataclass(frozen=True)
class _Layout:
    """A tiling while it is being packed: per tile, nodes and their places (`rows`) and the fixed nodes seen (`fixed`)."""

    size: int
    stem: list[int]  # the trunk's nodes that are computed, in the first places of tile 0
    base: list[int]  # the trunk's nodes that are kept, in the first fixed columns of every tile
    rows: list[dict[int, int]]
    fixed: list[dict[int, int]]
    home: list[tuple[int, list[int]]]  # per chosen prompt, its tile and its path

    @staticmethod
    def pack(tree: PromptTree, classes: Sequence[int], keep_fixed: bool, size: int) -> _Layout:
        """First fit: a prompt goes to the newest tile, where its neighbours in the tree are, else to the first with room."""
        trunk = tree.trunk(classes)
        kept = {n for c in classes for n in tree.paths[c] if keep_fixed and not tree.learnable[n]}
        stem, base = [n for n in trunk if n not in kept], [n for n in trunk if n in kept]
        layout = _Layout(size, stem, base, [_places(stem)], [_places(base)], [])
        open_tiles = [0]
        for c in classes:
            path = tree.paths[c]
            layout._place(path, [n for n in path if n in kept], [n for n in path[len(trunk) :] if n not in kept], open_tiles)
        return layout

    def _place(self, path: list[int], fixed: list[int], own: list[int], open_tiles: list[int]) -> None:
        for t in (open_tiles[-1], *open_tiles):
            if len(self.rows[t]) + sum(n not in self.rows[t] for n in own) <= self.size:
                break
        else:
            t = len(self.rows)
            self.rows.append({})
            self.fixed.append(_places(self.base))
            open_tiles.append(t)
        for nodes, seen in ((own, self.rows[t]), (fixed, self.fixed[t])):
            for node in nodes:
                seen.setdefault(node, len(seen))
        self.home.append((t, path))
        open_tiles[:-1] = [o for o in open_tiles[:-1] if len(self.rows[o]) < self.size]

    @property
    def columns(self) -> int:
        return max(map(len, self.fixed))

    def cost(self) -> float:
        keys = self.columns + len(self.stem) + self.size
        return len(self.rows) * self.size * (1 + KEY_COST * keys)

    def finish(self) -> Tiling:
        node_T = torch.tensor([_padded(rows, self.size) for rows in self.rows]).flatten()
        fixed_NA = torch.tensor([_padded(fixed, self.columns) for fixed in self.fixed], dtype=torch.int64)
        read_K = torch.tensor([self._row(t, path[-1]) for t, path in self.home])
        return Tiling(self.size, len(self.stem), node_T, fixed_NA, self._mask(), read_K)

    def _row(self, t: int, node: int) -> int:
        return self.rows[0][node] if node in self.stem else t * self.size + self.rows[t][node]

    def _mask(self) -> Tensor:
        stem = {node: self.columns + i for i, node in enumerate(self.stem)}
        shift = self.columns + len(stem)
        mask_TS = torch.zeros(len(self.rows) * self.size, shift + self.size, dtype=torch.bool)
        # A row in a tile's empty tail looks at itself, so that its softmax is finite; nobody looks at it.
        mask_TS.view(len(self.rows), self.size, -1).diagonal(offset=shift, dim1=1, dim2=2).fill_(True)
        for t, path in self.home:
            columns = [self.fixed[t][n] if n in self.fixed[t] else stem[n] if n in stem else shift + self.rows[t][n] for n in path]
            for depth, node in enumerate(path):
                if node not in self.fixed[t]:
                    mask_TS[self._row(t, node), columns[: depth + 1]] = True
        for i in range(len(stem)):
            mask_TS[i, shift + i] = False  # a trunk row sees itself through the trunk columns already
        return mask_TS.view(len(self.rows), self.size, -1)


def _places(nodes: list[int]) -> dict[int, int]:
    return {node: i for i, node in enumerate(nodes)}


def _padded(places: dict[int, int], length: int) -> list[int]:
    return [*places, *[-1] * (length - len(places))]
