"""Pictures of results: pixels in, the same pixels out."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from anyformer.data.pictures import PALETTE, Picture, beside, colour, enlarge, gray


def test_a_picture_is_written_as_it_is():
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(Picture("x", pixels).png()))), pixels)


def test_shades_go_from_the_smallest_to_the_largest_number():
    assert gray(np.array([[-1.0, 0.0, 1.0]]))[0, :, 0].tolist() == [0, 128, 255]
    assert gray(np.array([[5.0, 20.0]]), low=0.0, high=10.0)[0, :, 2].tolist() == [128, 255]
    assert gray(np.zeros((2, 2))).max() == 0  # one shade has no range


def test_colours_are_cut_to_what_can_be_shown():
    assert colour(np.array([[[-1.0, 0.5, 2.0]]])).tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert colour(np.stack([np.ones((1, 1)), np.zeros((1, 1)), np.ones((1, 1))])).tolist() == [[[255, 0, 255]]]


def test_panels_stand_in_a_row_on_white():
    row = beside([gray(np.zeros((2, 2))), enlarge(gray(np.zeros((2, 1))), 2)], gap=1)
    assert row.shape == (4, 5, 3)
    assert row[:2, :2].max() == 0 and row[2:, :2].min() == 255 and row[:, 2].min() == 255 and row[:, 3:].max() == 0


def test_classes_have_colours_of_their_own():
    assert len({tuple(c) for c in PALETTE.tolist()}) == len(PALETTE)
