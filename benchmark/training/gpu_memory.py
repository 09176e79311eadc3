"""How much of a GPU's memory a process may use: all of it, or the share that was set for it, as the
workers of an executor that puts several cells on one GPU do
(torch.cuda.set_per_process_memory_fraction).
"""

from __future__ import annotations

import torch


def allowed_bytes(device: torch.device) -> float:
    """The share of this process."""
    # torch has been able to say what was set since 2.7
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda device: 1.0)(device)
    return float(share * torch.cuda.get_device_properties(device).total_memory)


def left_bytes(device: torch.device) -> float:
    """What is left of it, and free."""
    free, _ = torch.cuda.mem_get_info(device)
    # what torch keeps of memory that is no longer used can be used again
    spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    left = allowed_bytes(device) - torch.cuda.memory_allocated(device)
    return max(0.0, min(free + spare, left))
