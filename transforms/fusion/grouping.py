"""Which buckets' sums are kept and merged together: a function of their number alone.

Sums of consecutive buckets are merged in order, and sums of these in order again, so what comes out
is the same bits on every runner. Nobody merges more than `MOST` files, and nobody keeps more
than `GROUPS`: with a million buckets there are 4,096 files of sums, merged 64 by 64, and
then 64 more.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.receipts import Receipt

GROUPS = 4096
"""Most groups of buckets that have sums of their own, and so workers that make them."""

MOST = 256
"""Most sums that are merged in one go; where there are more, `FAN_IN` of them are merged first."""

FAN_IN = 64


def group_size(buckets: int, least: int) -> int:
    """Buckets of which one file of sums is kept.

    Args:
        buckets: N, a power of two.
        least: a power of two; of few buckets, so many are grouped.
    """
    return max(least, buckets // GROUPS)


def merge_sizes(buckets: int, size: int) -> list[int]:
    """Buckets of each merged file, level by level, until no more than `MOST` are left.

    Args:
        buckets: N, a power of two.
        size: buckets of each file that there is.
    """
    sizes: list[int] = []
    while buckets // size > MOST:
        size *= FAN_IN
        sizes.append(size)
    return sizes


def in_order(receipts: Iterable[Receipt], buckets: range) -> list[Receipt]:
    """Receipts by bucket, one for each of some buckets.

    Raises:
        RuntimeError: if one is missing or twice there, which would be a fault of the runner.
    """
    found = sorted(receipts, key=lambda receipt: receipt.bucket)
    if [receipt.bucket for receipt in found] != list(buckets):
        raise RuntimeError(
            f"{found[0].step if found else 'merge'}: expected one receipt for each of "
            f"{len(buckets)} groups of buckets from {buckets.start}, got {len(found)}"
        )
    return found
