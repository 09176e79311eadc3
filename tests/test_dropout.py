"""Masks against the published finaliser, and their statistics."""

from __future__ import annotations

import torch

from benchmark.training.dropout import _mix_, keep_mask
from testbed.recording import eager


def finaliser(h: int) -> int:
    """MurmurHash3's 32-bit finaliser in plain integers."""
    h ^= h >> 16
    h = h * 0x85EBCA6B & 0xFFFFFFFF
    h ^= h >> 13
    h = h * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


def test_the_hash_is_the_published_one() -> None:
    numbers = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xDEADBEEF, 0xFFFFFFFF]
    signed = torch.tensor([n - (1 << 32) if n >> 31 else n for n in numbers], dtype=torch.int32)
    assert [int(h) & 0xFFFFFFFF for h in _mix_(signed)] == [finaliser(n) for n in numbers]


def masks(steps: int = 8, drop: float = 0.25, seed: int = 1, stream: int = 0) -> torch.Tensor:
    return torch.stack(
        [
            keep_mask((64, 500), drop, seed=seed, stream=stream, step=torch.tensor([step]))
            for step in range(steps)
        ]
    )


def test_as_many_are_kept_as_asked_for_in_every_row_and_column() -> None:
    kept = masks().float()
    assert abs(float(kept.mean()) - 0.75) < 0.003  # three standard deviations of 256,000 draws
    assert float((kept.mean((1, 2)) - 0.75).abs().max()) < 0.01
    assert float((kept.mean((0, 1)) - 0.75).abs().max()) < 0.085
    assert masks(drop=0.0).all()
    assert not masks(drop=1.0).any()


def test_steps_streams_and_seeds_are_independent() -> None:
    first = masks().flatten(1).float()
    others = [masks(seed=2).flatten(1).float(), masks(stream=1).flatten(1).float()]
    all_runs = torch.cat([first, *others])
    correlation = torch.corrcoef(all_runs) - torch.eye(len(all_runs))
    assert float(correlation.abs().max()) < 0.025  # 4.5 standard deviations at 32,000 elements


def test_neighbours_are_independent() -> None:
    kept = masks().float() - 0.75
    assert abs(float((kept[:, :, 1:] * kept[:, :, :-1]).mean()) / 0.1875) < 0.01
    assert abs(float((kept[:, 1:] * kept[:, :-1]).mean()) / 0.1875) < 0.01


def test_a_mask_is_repeatable_and_asks_nothing_of_the_host() -> None:
    mask = eager(lambda: masks(steps=2))
    assert torch.equal(mask, masks(steps=2))
    assert mask.flatten()[:8].tolist() == masks(steps=1).flatten()[:8].tolist()
