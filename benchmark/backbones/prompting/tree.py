"""Which tokens of many prompts are the same token: a tree with one node per distinct path. Pure
index work, no model.

In a causal tower a token's state depends on its own path from the root alone (by induction over
layers: attention looks back, everything else is token-wise, the position is the depth). So prompts
that begin alike share states, in every layer.

A symbol is a token id (>= 0) or a learnable vector: -1 - its row in the context matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Prompt = tuple[int, ...]  # the symbols of one prompt, from the first token to the one it is read at


@dataclass(frozen=True)
class PromptTree:
    """Node n stands for the symbol `symbols[n]` at position `depths[n]`; `learnable[n]`: a
    learnable vector lies on its path.
    """

    symbols: list[int]
    depths: list[int]
    learnable: list[bool]
    paths: list[list[int]]  # per prompt, its nodes from the root to where it is read

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

    def trunk(self, prompts: Sequence[int]) -> list[int]:
        """The nodes that all chosen prompts begin with."""
        first, *others = [self.paths[p] for p in prompts]
        length = len(first)
        for path in others:
            while path[:length] != first[:length]:
                length -= 1
        return first[:length]

    def fixed(self) -> PromptTree:
        """The same nodes, but of each prompt only what comes before its first learnable vector."""
        paths = {tuple(n for n in path if not self.learnable[n]) for path in self.paths}
        return PromptTree(
            self.symbols, self.depths, self.learnable, [list(path) for path in sorted(paths)]
        )
