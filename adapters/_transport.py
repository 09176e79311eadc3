"""Similarity of an image and a class that have several features each, by optimal transport.

    sum_pn T_pn x_p . t_n,   T = argmin over plans of  sum_pn T_pn (1 - x_p . t_n) - epsilon H(T)

x_p: P features of the image, t_n: N of the class, all of unit length; T: a plan of P x N shares,
1 / P for every x_p and 1 / N for every t_n, H: entropy. The plan comes of Sinkhorn's algorithm, for
every image and class by itself, and is held fixed in the gradient.
Letters of this file: R runs, B images, P features of an image, K classes, N features of a class, D
numbers of a feature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from adapters._settings import Transport


def matched(image_RBPD: Tensor, text_RNKD: Tensor, transport: Transport) -> Tensor:
    """similarity_RBK of the features of an image to those of a class, weighed by their plan."""
    places, prompts = image_RBPD.shape[2], text_RNKD.shape[1]
    sim_RXY = image_RBPD.flatten(1, 2) @ text_RNKD.flatten(1, 2).mT
    sim_RBPNK = sim_RXY.unflatten(2, (prompts, -1)).unflatten(1, (-1, places))
    return (plan(sim_RBPNK, transport) * sim_RBPNK).sum((2, 3))


@torch.no_grad()
def plan(sim_RBPNK: Tensor, transport: Transport) -> Tensor:
    """share_RBPNK by Sinkhorn's algorithm: 1 / N for every feature of a class and, in the
    limit, 1 / P for every one of an image. Every image and class is a problem of its own.
    """
    places, prompts = sim_RBPNK.shape[2:4]
    # a factor of its own for every place changes no plan, and keeps what follows within range
    kernel = ((sim_RBPNK - sim_RBPNK.amax(3, keepdim=True)) / transport.epsilon).exp()
    prompt_RB1NK = torch.ones_like(kernel[:, :, :1])
    for _ in range(transport.iterations):
        place_RBP1K = (1 / places) / (kernel * prompt_RB1NK).sum(3, keepdim=True)
        prompt_RB1NK = (1 / prompts) / (kernel * place_RBP1K).sum(2, keepdim=True)
    return place_RBP1K * kernel * prompt_RB1NK
