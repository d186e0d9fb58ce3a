from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cerebridge.neuro import lazy

VALUES = np.arange(13 * 7 * 3).reshape(13, 7, 3)


@dataclass(frozen=True)
class Watched(lazy.Source):
    """Values in memory that note which rectangles are asked for."""

    regions: list[lazy.Region] = field(default_factory=list)

    @contextmanager
    def opened(self) -> Iterator[Callable[[lazy.Region], np.ndarray]]:
        def read(region: lazy.Region) -> np.ndarray:
            assert all(0 <= part.start <= part.stop for part in region)
            self.regions.append(region)
            return VALUES[region]

        yield read


def on_disk() -> tuple[xr.Variable, Watched]:
    source = Watched(VALUES.shape, VALUES.dtype, (np.arange(0, 13, 4), np.array([0, 1, 5]), np.array([0])))
    return lazy.variable(["a", "b", "c"], source, {}), source


def index(size: int) -> st.SearchStrategy[Any]:
    place = st.integers(-size, size - 1)
    stop = st.none() | st.integers(-size - 2, size + 2)
    step = st.none() | st.integers(-3, 3).filter(bool)
    return (
        place
        | st.builds(slice, st.none() | place, stop, step)
        | st.lists(place, max_size=6).map(lambda i: np.array(i, int))
    )


@given(index(13), index(7), index(3))
@settings(max_examples=300, deadline=None)
def test_any_selection_equals_numpys(a: Any, b: Any, c: Any) -> None:
    variable, _ = on_disk()
    expected = VALUES[a if isinstance(a, slice) else np.atleast_1d(a)]
    expected = expected[:, b if isinstance(b, slice) else np.atleast_1d(b)]
    expected = expected[:, :, c if isinstance(c, slice) else np.atleast_1d(c)]
    expected = expected[tuple(0 if isinstance(i, int) else slice(None) for i in (a, b, c))]
    np.testing.assert_array_equal(variable[a, b, c].values, expected)


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=5), st.lists(st.integers(0, 6), min_size=5, max_size=5)
)
@settings(max_examples=30, deadline=None)
def test_points_and_chained_selections_equal_numpys(a: list[int], b: list[int]) -> None:
    variable, _ = on_disk()
    b = b[: len(a)]
    points = variable[{"a": xr.Variable("p", a), "b": xr.Variable("p", b)}]
    np.testing.assert_array_equal(points.values, VALUES[a, b])
    np.testing.assert_array_equal(variable[2:][a[0] % 11 :][::-1].values, VALUES[2:][a[0] % 11 :][::-1])


@pytest.mark.parametrize(
    ("rows", "regions"),
    [
        (slice(3, 9), [(3, 9)]),
        ([1, 3], [(1, 4)]),
        ([3, 4], [(3, 5)]),
        ([3, 5], [(3, 4), (5, 6)]),
        ([12, 0, 12], [(0, 1), (12, 13)]),
        (slice(None, None, 6), [(0, 1), (6, 7), (12, 13)]),
        ([], [(0, 0)]),
    ],
)
def test_only_touched_chunks_are_asked_for(rows: Any, regions: list[tuple[int, int]]) -> None:
    variable, source = on_disk()
    assert not source.regions
    variable[rows if isinstance(rows, slice) else np.array(rows, int)].values
    assert [(region[0].start, region[0].stop) for region in source.regions] == regions


def test_values_are_read_once() -> None:
    variable, source = on_disk()
    part = variable[:2]
    part.values, part.values
    assert len(source.regions) == 1


@pytest.mark.parametrize("place", [13, [0, 20]])
def test_positions_outside_are_refused(place: Any) -> None:
    variable, _ = on_disk()
    with pytest.raises(IndexError):
        variable[place].values
