"""Pictures in rows: every one is drawn in its place, with its caption."""

from __future__ import annotations

import numpy as np
import pytest

from cerebridge.encoding import plots
from cerebridge.models import StimulusSet


def texts(figure) -> list[str]:
    within = [text.get_text() for axis in figure.axes for text in (*axis.texts, axis.title)]
    return [text for text in within + [text.get_text() for text in figure.texts] if text]


def test_pictures_lie_row_by_row_with_what_is_said_about_them(tmp_path):
    images = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.full((1, 8, 8, 3), 40, np.uint8)
    figure = plots.plot_pictures(
        images,
        [0.123456, 7, "made\nby hand", None, 1e-9, "b"],
        rows=["unit 1", "unit 2"],
        column_names=["a", "b", "c"],
        marked=[False, True, False, False, False, False],
        title="All",
    )
    assert len(figure.axes) == 6
    boxes = [axis.get_position() for axis in figure.axes]
    assert boxes[0].x0 < boxes[1].x0 < boxes[2].x0
    assert abs(boxes[3].x0 - boxes[0].x0) < 1e-9 and boxes[3].y1 < boxes[0].y0
    for box in boxes:
        assert min(box.x0, box.y0) >= 0 and max(box.x1, box.y1) <= 1
    for k, axis in enumerate(figure.axes):
        assert (axis.images[0].get_array() == 40 * k).all()
    written = texts(figure)
    for text in ("0.123", "7", "made\nby hand", "1e-09", "unit 2", "c", "All"):
        assert text in written
    framed = [axis.spines["left"].get_visible() for axis in figure.axes]
    assert framed == [False, True, False, False, False, False]
    figure.savefig(tmp_path / "pictures.png")


def test_pictures_of_every_kind_and_empty_places():
    grey, colour = np.full((5, 9), 0.5), np.zeros((7, 7, 4))
    figure = plots.plot_pictures([grey, None, colour])
    assert [len(axis.images) for axis in figure.axes] == [1, 0, 1]
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    stimuli = StimulusSet.from_arrays(np.zeros((8, 6, 6, 3), np.uint8))
    assert len(plots.plot_pictures(stimuli).axes) == 8


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "no pictures"),
        ([np.zeros(5)], {}, r"picture 0 has the shape \(5,\)"),
        ([np.zeros((4, 4)), np.full((4, 4), 7.0)], {}, "picture 1 has values that are not from 0 to 1"),
        ([np.zeros((4, 4))], {"captions": ["a", "b"]}, "captions= has 2 entries, but 1 are drawn"),
        ([np.zeros((4, 4))], {"rows": ["a", "b"]}, "rows= has 2 entries"),
        ([np.zeros((4, 4))], {"columns": 2, "column_names": ["a"]}, "column_names= has 1 entries, but 2"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(images, options, message):
    with pytest.raises(ValueError, match=message):
        plots.plot_pictures(images, **options)
