"""Statistics: those of two passes over the rows, in any split, fold, subset and filling."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from patterned import DIMS, cut, make, matrix, numbers, pick

from schemas.arrays import load_arrays, save_arrays
from schemas.errors import DataError
from schemas.recipe import TARGET
from transforms.fusion import collecting, statistics
from transforms.fusion.cells import CLASS, DOMAIN, FOLD, Second
from transforms.fusion.collecting import Rows, collect
from transforms.fusion.moments import unpack
from transforms.fusion.statistics import Statistics, merge_all


def scatter(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=0)
    return centred.T @ centred


def close(actual: np.ndarray, expected: np.ndarray, relative: float = 1e-9) -> None:
    np.testing.assert_allclose(
        actual, expected, rtol=relative, atol=relative * (1 + np.abs(expected).max(initial=0))
    )


def assert_counted(found: Statistics, rows: Rows, relative: float = 1e-9) -> None:
    """Each cell, and each group's matrix, against the rows themselves."""
    x, seen = matrix(rows), rows.fold >= 0
    y = rows.y if rows.y is not None else np.full(len(x), -1)
    domain = rows.domain if rows.domain is not None else np.zeros(len(x), int)
    has = np.repeat(rows.present, [b.shape[1] for b in rows.blocks.values()], axis=1)
    assert found.count == seen.sum()
    for pattern, cells in found.cells.items():
        own = (rows.present == [bool(pattern >> i & 1) for i in range(len(found.dims))]).all(axis=1)
        columns = has[own & seen].all(axis=0) if (own & seen).any() else []
        assert (np.diff(np.ravel_multi_index(cells.keys.T + 1, (99, 99, 99))) > 0).all()
        in_group: dict[tuple[int, ...], list[np.ndarray]] = {}
        for i, (k, m, c) in enumerate(cells.keys):
            block = x[own & (rows.fold == k) & (domain == m) & (y == c)][:, columns]
            assert cells.count[i] == len(block) > 0
            close(cells.mean[i], block.mean(axis=0), relative)
            close(cells.square[i], np.diagonal(scatter(block)), relative)
            stratum = int(c) if found.second == "class" else min(int(c), 0)
            in_group.setdefault((int(k), int(m), stratum), []).append(scatter(block))
        if found.second != "diagonal":
            assert list(in_group) == list(cells.groups())
            for expected, packed in zip(in_group.values(), cells.products, strict=True):
                close(unpack(packed, cells.dimensions), sum(expected), relative)  # type: ignore[arg-type]


def assert_same(a: Statistics, b: Statistics, relative: float = 1e-9) -> None:
    assert (a.dims, a.second, a.classes, a.domains) == (b.dims, b.second, b.classes, b.domains)
    assert list(a.cells) == list(b.cells)
    for x, y in zip(a.cells.values(), b.cells.values(), strict=True):
        assert x.keys.tolist() == y.keys.tolist()
        assert x.count.tolist() == y.count.tolist()
        close(x.mean, y.mean, relative)
        close(x.square, y.square, relative)
        for p, q in zip(x.products, y.products, strict=True):
            close(p, q, relative)


@pytest.mark.parametrize("second", ["diagonal", "pooled", "class"])
def test_cells_are_those_of_two_passes(second: Second) -> None:
    rows = make(0, 400, domains=("x", "y"))
    assert not rows.present.any(axis=1).all()  # some rows have nothing
    assert_counted(collect([rows], second), rows)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    second=st.sampled_from(["diagonal", "pooled", "class"]),
    offset=st.sampled_from([0.0, 1e5]),
    batch=st.integers(1, 200),
)
def test_any_split_agrees(
    seed: int, n: int, cuts: list[int], second: Second, offset: float, batch: int
) -> None:
    rows = make(seed, n, offset=offset)
    bounds = [0, *sorted(min(c, n) for c in cuts), n]
    parts = [cut(rows, a, b) for a, b in itertools.pairwise(bounds)]
    whole = collect([rows], second)
    assert_counted(whole, rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collecting, "BATCH_VALUES", batch)
        assert_same(collect(parts, second), whole)
    assert_same(merge_all(collect([part], second) for part in parts), whole)


def test_merging_changes_none_of_the_parts() -> None:
    rows = make(1, 200)
    parts = [collect([cut(rows, a, a + 50)]) for a in range(0, 200, 50)]
    before = [p.to_arrays("s") for p in parts]
    copies = [{n: a.copy() for n, a in arrays.items()} for arrays in before]
    assert_same(merge_all(parts), collect([rows]))
    for part, copy in zip(parts, copies, strict=True):
        for name, array in part.to_arrays("s").items():
            assert array.tobytes() == copy[name].tobytes()


def test_the_same_parts_give_the_same_bits() -> None:
    rows = make(2, 300)
    once, again = (
        merge_all(collect([cut(rows, a, a + 100)]) for a in (0, 100, 200)).to_arrays("s")
        for _ in range(2)
    )
    assert {n: a.tobytes() for n, a in once.items()} == {n: a.tobytes() for n, a in again.items()}


@pytest.mark.parametrize("second", ["diagonal", "pooled", "class"])
def test_round_trip_through_a_file(tmp_path: Path, second: Second) -> None:
    for rows in (make(3, 100, domains=("x", "y")), make(3, 0), numbers(make(3, 50))):
        known = collect([rows], second)
        path = str(tmp_path / "s.npz")
        save_arrays(path, known.to_arrays("s"))
        loaded = Statistics.from_arrays("s", load_arrays(path))
        assert_same(loaded, known, 0)
        assert_same(merge_all([loaded, known]), merge_all([known, known]), 0)


def test_classes_and_domains_are_merged_by_name() -> None:
    rows = make(4, 120, classes=("a", "b", "c"), domains=("x", "y"))
    # The first half knows them by other numbers, and has not met all of them.
    first = cut(rows, 0, 60)
    first = pick(first, (first.y != 0) & (first.domain == 1))
    assert first.y is not None
    codes = np.array([-1, 1, 0, -1])[first.y]
    renamed = replace(
        first, y=codes, classes=("c", "b"), domain=np.zeros_like(first.domain), domains=("y",)
    )
    second = cut(rows, 60, 120)
    expected = collect([first, second])
    assert_same(collect([renamed, second]), expected)
    assert_same(merge_all([collect([renamed]), collect([second])]), expected)
    with pytest.raises(ValueError, match="domain"):
        collect([replace(first, domain=None), second])
    with pytest.raises(ValueError, match="domain"):
        merge_all([collect([replace(first, domain=None, domains=())]), collect([second])])


# --- folds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_all_but_one_fold(folds: int) -> None:
    rows = make(5, 300, folds=folds)
    known = collect([rows])
    seen = []
    for fold, rest, held in known.leave_out():
        seen.append(fold)
        training = rows.fold >= 0
        others = replace(rows, fold=np.where(training & (rows.fold != fold), 0, -1))
        own = replace(rows, fold=np.where(rows.fold == fold, 0, -1))
        assert_same(rest, collect([others]))
        assert_same(held, collect([own]))
    assert seen == list(range(folds)) == known.values(FOLD)


def test_all_but_one_domain() -> None:
    rows = make(6, 300, domains=("x", "y", "z"))
    for domain, rest, held in collect([rows]).leave_out(DOMAIN):
        assert rest.values(FOLD) == held.values(FOLD) == [0, 1, 2, 3]
        assert rows.domain is not None
        other = replace(pick(rows, rows.domain != domain), domain=None, domains=())
        close(rest.mean(), collect([other]).mean())
        close(rest.moments().scatter, collect([other]).moments().scatter)


def test_one_fold_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="1 folds"):
        next(collect([make(7, 20, folds=1, test=False)]).leave_out())


def test_leaving_out_the_largest_fold_costs_no_digits() -> None:
    """What is left varies by 1e-4; a difference of sums would be wrong in the first digit."""
    rows = make(8, 300, folds=3, missing=0, test=False)
    scale = np.where(rows.fold == 0, 1e4, 1e-4)[:, None]
    rows = replace(rows, blocks={m: (b * scale).astype(np.float32) for m, b in rows.blocks.items()})
    _, rest, _ = next(collect([rows]).leave_out())
    close(rest.moments().scatter, scatter(matrix(rows)[rows.fold != 0]), 1e-12)


# --- subsets, missing modalities, scale ----------------------------------------------------------


@pytest.mark.parametrize(
    "names", [["audio"], ["image", "text"], ["text", "image"], [], [*DIMS]], ids=str
)
def test_a_subset_is_that_of_the_rows_with_these_modalities_alone(names: list[str]) -> None:
    rows = make(9, 300)
    at = [i for i, name in enumerate(DIMS) if name in names]
    fewer = replace(
        rows,
        blocks={n: b for n, b in rows.blocks.items() if n in names},
        present=rows.present[:, at],
    )
    assert_same(collect([rows]).subset(names), collect([fewer]))


def test_no_such_modality() -> None:
    with pytest.raises(ValueError, match="no statistics of 'video'; there are image, audio, text"):
        collect([make(0, 5)]).subset(["image", "video"])


@pytest.mark.parametrize("second", ["pooled", "class"])
def test_filled_are_those_of_rows_filled(second: Second) -> None:
    rows = make(10, 400)
    known = collect([rows], second)
    training = matrix(rows)[rows.fold >= 0]
    close(known.mean(), np.nanmean(training, axis=0))
    for fill in (known.mean(), np.zeros(9)):
        x = matrix(rows)
        x = np.where(np.isnan(x), fill, x)
        whole = replace(
            rows,
            blocks={n: x[:, known.columns(n)] for n in DIMS},
            present=np.ones_like(rows.present),
        )
        assert_same(known.filled(fill), collect([whole], second))


def test_scaled_are_those_of_rows_scaled() -> None:
    rows = make(11, 200)
    known = collect([rows])
    rng = np.random.default_rng(0)
    shift, factor = rng.normal(size=9), rng.normal(size=9)
    factor[3] = 0
    x = (matrix(rows) - shift) * factor
    scaled = replace(rows, blocks={n: x[:, known.columns(n)] for n in DIMS})
    assert_same(known.scaled(shift, factor), collect([scaled]))


def test_moments_of_the_rows_that_have_the_modalities() -> None:
    rows = make(12, 300)
    known = collect([rows])
    x = matrix(rows)[rows.fold >= 0]
    for names in (["audio"], ["image", "text"], [*DIMS]):
        own = x[:, np.concatenate([np.r_[known.columns(n)] for n in names])]
        own = own[~np.isnan(own).any(axis=1)]
        found = known.moments(names)
        assert found.count == len(own)
        close(found.mean, own.mean(axis=0))
        close(found.scatter, scatter(own))
        close(known.moments(names, full=False).scatter, np.diagonal(scatter(own)))
    nobody = collect([make(12, 20, missing=1.0)]).moments()
    assert (nobody.count, nobody.scatter.shape) == (0, (9, 9))


def test_moments_by_class() -> None:
    rows = make(13, 300, missing=0, classes=("a", "b", "c", "never"))
    rows = pick(rows, rows.y != 3)
    known = collect([rows], "class")
    found = known.by_class()
    assert rows.y is not None
    x = matrix(rows)
    own = [x[(rows.fold >= 0) & (rows.y == c)] for c in range(3)]
    assert found.count.tolist() == [*(len(o) for o in own), 0]
    for c, o in enumerate(own):
        close(found.mean[c], o.mean(axis=0))
        close(found.square[c], np.diagonal(scatter(o)))
        close(found.each[c], scatter(o))  # type: ignore[index]
    close(found.within, np.sum([scatter(o) for o in own], axis=0))
    close(collect([rows]).by_class().within, found.within)
    axes = np.random.default_rng(0).normal(size=(2, 9))
    fewer = found.projected(axes)
    close(fewer.mean[:3], np.stack([(o @ axes.T).mean(axis=0) for o in own]))
    close(fewer.each[0], scatter(own[0] @ axes.T))  # type: ignore[index]
    close(fewer.square[0], np.diagonal(scatter(own[0] @ axes.T)))
    with pytest.raises(ValueError, match="rows lack audio"):
        collect([make(13, 50)]).subset(["audio"]).by_class()


def test_numbers_to_predict_are_one_more_column() -> None:
    rows = numbers(make(14, 200))
    known = collect([rows])
    assert known.dims == {**DIMS, TARGET: 1}
    assert (known.features, known.dimension, known.values(CLASS)) == (tuple(DIMS), 9, [-1])
    full = (rows.fold >= 0) & rows.present.all(axis=1) & np.isfinite(rows.y)
    close(known.moments().scatter, scatter(np.column_stack([matrix(rows), rows.y])[full]))
    labelled = (rows.fold >= 0) & np.isfinite(rows.y)
    filled = known.labelled().filled(known.mean())
    assert filled.moments().count == filled.count == labelled.sum()
    scaled = known.scaled(np.ones(9), np.full(9, 2.0))
    close(scaled.moments().scatter[-1, -1], known.moments().scatter[-1, -1])
    close(scaled.moments().scatter[0, -1], 2 * known.moments().scatter[0, -1])


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_must_be_finite(bad: float) -> None:
    rows = make(15, 20, missing=0, test=False)
    rows.blocks["audio"][7, 2] = bad
    with pytest.raises(ValueError, match="audio: dimension 2 has values that are infinite"):
        collect([rows])


def test_more_memory_than_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make(16, 200)
    parts = [collect([cut(rows, 0, 100)]), collect([cut(rows, 100, 200)])]
    monkeypatch.setattr(statistics, "LARGEST_BYTES", 2000)
    with pytest.raises(DataError, match="more than 0 MiB: give the extractors"):
        collect([rows])
    with pytest.raises(DataError, match="have fewer folds"):
        merge_all(parts)


def test_what_cannot_be_merged() -> None:
    rows = make(17, 20)
    with pytest.raises(ValueError, match="cannot be merged"):
        merge_all([collect([rows]), collect([rows], "diagonal")])
    other = replace(rows, blocks={**rows.blocks, "text": rows.blocks["audio"]})
    with pytest.raises(ValueError, match="cannot be counted with"):
        collect([rows, other])
    with pytest.raises(ValueError, match="for 3 names"):
        collect([replace(rows, y=np.full(20, 3))])
    for nothing in (collect, merge_all):
        with pytest.raises(ValueError, match="no "):
            nothing([])
