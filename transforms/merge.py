"""Merge: sums of groups of buckets -> fewer of them, where there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import apache_beam as beam

from schemas.receipts import Receipt
from transforms.fusion.grouping import in_order, merge_sizes

Named = tuple[str, Receipt]
"""(what the sums are of, receipt of those of one group of buckets)."""

MergeFiles = Callable[[str, list[Receipt], int], Receipt]
"""(name, receipts of consecutive groups in order, buckets of them all) -> the merged one's."""


class Merge(beam.PTransform):
    """Merge sums in the order of buckets, many workers at a time: no more than `MOST` are left.

    Of few buckets there is nothing to merge, and no step for it.

    Args:
        buckets: N.
        size: buckets of each receipt that comes in.
        merge: merges files.
    """

    def __init__(self, buckets: int, size: int, merge: MergeFiles) -> None:
        super().__init__()
        self.buckets, self.size, self.merge = buckets, size, merge

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        size = self.size
        for larger in merge_sizes(self.buckets, size):
            parts = (
                parts
                | f"By {larger} buckets"
                >> beam.Map(by_group, larger).with_output_types(tuple[tuple[str, int], Receipt])
                | f"Group {larger} buckets" >> beam.GroupByKey()
                | f"Merge {larger} buckets"
                >> beam.Map(merge_group, self.buckets, size, larger, self.merge).with_output_types(
                    Named
                )
            )
            size = larger
        return parts


def by_group(part: Named, size: int) -> tuple[tuple[str, int], Receipt]:
    """Sums under their name and the number of the group that they belong to."""
    name, receipt = part
    return (name, receipt.bucket // size), receipt


def merge_group(
    grouped: tuple[tuple[str, int], Iterable[Receipt]],
    buckets: int,
    size: int,
    larger: int,
    merge: MergeFiles,
) -> Named:
    """The sums of one group, merged."""
    (name, number), receipts = grouped
    start = number * larger
    own = range(start, min(start + larger, buckets), size)
    return name, merge(name, in_order(receipts, own), larger)
