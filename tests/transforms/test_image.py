"""What holds of all extractors of images, whatever the images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from image_files import encode, fitted, modality, pictures, shapes

from transforms.extractors.base import Batch, Extractor
from transforms.extractors.image.color import Color
from transforms.extractors.image.decoding import decode
from transforms.extractors.image.fisher import Fisher
from transforms.extractors.image.hog import Hog
from transforms.extractors.image.hu import Hu
from transforms.extractors.image.lbp import Lbp
from transforms.extractors.image.pixels import Pixels
from transforms.extractors.image.sift import Sift

EXTRACTORS = {
    "hog": lambda: Hog(),
    "hog of odd sizes": lambda: Hog(size=37, orientations=6, cell=5, block=3),
    "color": lambda: Color(),
    "color over a grid": lambda: Color(space="lab", bins=[4, 5, 6], cells=3, root=True),
    "pixels": lambda: Pixels(),
    "pixels in colour": lambda: Pixels(size=9, color=True),
    "lbp": lambda: Lbp(),
    "lbp of odd sizes": lambda: Lbp(size=29, points=5, radius=2.5, cells=2, root=True),
    "hu": lambda: Hu(),
    "hu inverted": lambda: Hu(invert=True),
    "sift": lambda: Sift(words=12, size=64),
    "hard sift": lambda: Sift(words=12, size=64, sample=60, assignment="hard"),
    "fisher": lambda: Fisher(gaussians=2, size=32, step=8, patches=(12, 16), sample=200),
}
LEARNING = [name for name in EXTRACTORS if "sift" in name or name == "fisher"]


@pytest.fixture(scope="module")
def ready() -> dict[str, Extractor]:
    """All of them, fitted."""
    return {name: fitted(make(), [shapes()]) for name, make in EXTRACTORS.items()}


def items() -> list[np.ndarray]:
    return [*pictures(), *shapes(3, seed=1), np.full((9, 200, 3), 255, np.uint8)]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_rows_are_finite_named_and_single_precision(ready: dict[str, Extractor], name: str) -> None:
    rows, names = ready[name].transform(Batch(items())), ready[name].names()
    assert rows.dtype == np.float32
    assert rows.shape == (len(items()), len(names))
    assert len(set(names)) == len(names)
    assert np.isfinite(rows).all()
    if "hu" not in name and name != "fisher":
        assert rows.min() >= 0
        assert rows.max() <= 1 + 1e-6
    assert len(np.unique(rows, axis=0)) > len(rows) / 3
    assert ready[name].transform(Batch([])).shape == (0, len(names))


@pytest.mark.parametrize("name", EXTRACTORS)
@given(data=st.data())
@settings(max_examples=10)
def test_a_row_does_not_depend_on_its_batch(
    ready: dict[str, Extractor], name: str, data: st.DataObject
) -> None:
    some = data.draw(st.permutations(items()))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(some)))) | {0, len(some)})
    parts = [ready[name].transform(Batch(some[a:b])) for a, b in itertools.pairwise(cuts)]
    assert np.concatenate(parts).tobytes() == ready[name].transform(Batch(some)).tobytes()


images = arrays.arrays(
    np.uint8,
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
    elements=st.integers(0, 255),
    fill=st.sampled_from([0, 7, 255]),
)


@given(image=images, form=st.sampled_from(["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"]))
@settings(max_examples=60)
def test_whatever_can_be_decoded_has_finite_features(
    ready: dict[str, Extractor], image: np.ndarray, form: str
) -> None:
    decoded = decode(encode(image, form), modality())
    assert decoded.shape == image.shape
    for extractor in ready.values():
        assert np.isfinite(extractor.transform(Batch([decoded]))).all()


@pytest.mark.parametrize("name", LEARNING)
@given(data=st.data())
@settings(max_examples=6)
def test_any_split_and_order_of_merging_learns_the_same(name: str, data: st.DataObject) -> None:
    some, known = shapes(), {}
    for number in range(1, EXTRACTORS[name]().rounds + 1):
        whole, parts = EXTRACTORS[name](), EXTRACTORS[name]()
        if number > 1:
            whole.load(known)
            parts.load(known)
        want = whole.merge([whole.partial(Batch(some))])
        mixed = data.draw(st.permutations(some))
        cuts = sorted(data.draw(st.sets(st.integers(0, len(some)))) | {0, len(some)})
        states = [parts.partial(Batch(mixed[a:b])) for a, b in itertools.pairwise(cuts)]
        while len(states) > 1:
            stop = data.draw(st.integers(2, len(states)))
            states = [parts.merge(states[:stop]), *states[stop:]]
        got = parts.merge(states)
        assert {k: v.tobytes() for k, v in got.items()} == {k: v.tobytes() for k, v in want.items()}
        known |= whole.finish(want)
