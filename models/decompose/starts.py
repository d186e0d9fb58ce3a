"""Where factorisations start: non-negative loadings of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Start = Literal["random", "kmeans", "svd"]


def _start_random(rows: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.uniform(size=(len(rows), n))).to(rows)


def _start_kmeans(rows: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    from sklearn.cluster import KMeans

    seed = int(generator.integers(2**31 - 1))
    clusters = KMeans(n, n_init=1, random_state=seed).fit_predict(rows.cpu().numpy())
    # a fifth everywhere: what is zero stays zero under multiplication
    return torch.from_numpy(np.eye(n)[clusters] + 0.2).to(rows)


def _start_svd(rows: Tensor, n: int, generator: np.random.Generator) -> Tensor:
    left = torch.linalg.svd(rows, full_matrices=False).U[:, :n]
    larger = left.clamp_min(0).norm(dim=0) >= (-left).clamp_min(0).norm(dim=0)
    parts = torch.where(larger, left, -left).clamp_min(0)
    missing = _start_random(rows, n - parts.shape[1], generator)
    noise = _start_random(rows, n, generator) * float(parts.mean())
    return torch.cat([parts, missing], 1) + noise


#: by name, functions of rows, number of features and generator
STARTS: dict[str, Callable[[Tensor, int, np.random.Generator], Tensor]] = {
    "random": _start_random,
    "kmeans": _start_kmeans,
    "svd": _start_svd,
}
