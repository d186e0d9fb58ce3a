"""How every figure looks: colours, sizes, and figures that no window manager knows of."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#22303c", "#66757f", "#e4e9ed"
ACCENT, WARM, BAND = "#1f6f8b", "#c8553d", "#dfe5e9"
CYCLE = (ACCENT, WARM, "#7a9e3b", "#7b5ea7", "#d9a441", "#4b5563", "#3aa6a0", "#a8506e")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "figure.dpi": 100,
    "savefig.dpi": 160,
}
#: axes labels of the scores that evaluations give
SCORES = {
    "pearsonr": "correlation with held-out responses",
    "r2": "explained variance of held-out responses",
    "pseudo_r2": "pseudo-R² of held-out counts",
    "accuracy": "accuracy on held-out rows",
    "balanced_accuracy": "balanced accuracy on held-out rows",
    "roc_auc": "area under the ROC curve",
    "spearman": "Spearman correlation of dissimilarities",
    "pearson": "Pearson correlation of dissimilarities",
    "cosine": "cosine of dissimilarities",
    "rho-a": "rank correlation (rho-a) of dissimilarities",
    "tau-a": "Kendall's tau-a of dissimilarities",
    "tau-b": "Kendall's tau-b of dissimilarities",
    "whitened-pearson": "whitened correlation of dissimilarities",
    "whitened-cosine": "whitened cosine of dissimilarities",
}


@contextmanager
def styled() -> Iterator[None]:
    """Our style while artists are made; the caller's settings come back after it."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def panels(
    n: int, *, width: float = 3.4, height: float = 3.2, columns: int = 4, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of ``n`` equal panels in rows of at most ``columns``; ``width`` and ``height`` (inches) are of one."""
    from matplotlib.figure import Figure

    columns = min(n, columns)
    rows = -(-n // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = np.ravel(figure.subplots(rows, columns, squeeze=False, **options))
    for axis in axes[n:]:
        axis.remove()
    return figure, list(axes[:n])


def sequential() -> Colormap:
    """White to dark: dissimilarities, counts."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(
        "cerebridge", ["#f8fafb", "#a9cbd4", "#4b95ab", ACCENT, "#10283a"]
    )


def score_label(name: str) -> str:
    """What the axis of a score is called."""
    return SCORES.get(name, name)


def short_names(models: Sequence[str]) -> list[str]:
    """``network/layer`` without the network, where there is only one; long names are cut in the middle."""
    owners = {name.split("/")[0] for name in models if "/" in name}
    names = [name.split("/", 1)[1] if len(owners) == 1 and "/" in name else name for name in models]
    return [name if len(name) <= 26 else f"{name[:12]}…{name[-12:]}" for name in names]


def wrapped(text: str, width: int = 34) -> str:
    """A title that fits over its panel."""
    return "\n".join(textwrap.wrap(text, width)) or text
