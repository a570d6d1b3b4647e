"""Hashes, pairs and clusters of copies."""

import imagehash
import numpy as np
import pytest
from made_leaks import texture
from PIL import Image, ImageOps

from kd.audit.copies import ALIKE, IDENTICAL, NEAR, Pair, _distances, clusters, fine_detail
from kd.audit.measure import perceptual_hash, without_bars
from kd.datasets.decode import fit_array


@pytest.mark.parametrize("number", range(3))
def test_the_words_hold_imagehash_s_bits(number: int) -> None:
    image = texture(number)
    bits = np.unpackbits(perceptual_hash(image).view(np.uint8)).astype(bool)
    assert np.array_equal(bits.reshape(16, 16), imagehash.phash(image, hash_size=16).hash)


def test_distances_are_imagehash_s() -> None:
    images = [texture(number) for number in range(4)]
    words = np.stack([perceptual_hash(image) for image in images])
    hashes = [imagehash.phash(image, hash_size=16) for image in images]
    assert _distances(words, words).tolist() == [[one - other for other in hashes] for one in hashes]


def test_all_bits_different_is_the_largest_distance() -> None:
    zeros, ones = np.zeros((1, 4), np.uint64), np.full((1, 4), 2**64 - 1, np.uint64)
    assert _distances(zeros, ones).tolist() == [[255]]


def test_bars_that_fit_an_image_into_the_square_are_left_out() -> None:
    image = np.asarray(texture(1).crop((0, 0, 96, 48)))
    fitted = fit_array(image, 96).pixels
    assert np.array_equal(without_bars(fitted, (96, 48)), image)
    assert without_bars(fitted, (0, 0)).shape == (96, 96, 3)


def correlation(first: Image.Image, second: Image.Image) -> float:
    one, other = (fine_detail(np.asarray(image)).ravel() for image in (first, second))
    return float(np.corrcoef(one, other)[0, 1])


def test_fine_detail_survives_brightness_and_size_and_tells_images_apart() -> None:
    image = texture(1)
    assert correlation(image, image.point(lambda value: 255 * (value / 255) ** 0.7)) > 0.95
    assert correlation(image, image.resize((48, 48))) > 0.8
    assert abs(correlation(image, texture(2))) < 0.5
    assert abs(correlation(image, ImageOps.mirror(image))) < 0.5


def test_clusters_join_chains_of_copies_but_no_look_alikes() -> None:
    pairs = [Pair(0, 3, IDENTICAL, 0, 1.0), Pair(3, 5, NEAR, 8, 0.97), Pair(1, 2, ALIKE, 30, 0.5)]
    found = clusters(pairs, 6)
    assert found[0] == found[3] == found[5]
    assert len(set(found.tolist())) == 4
    assert len(set(clusters([], 3).tolist())) == 3
