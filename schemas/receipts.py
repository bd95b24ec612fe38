"""Receipts: what is done, from what, and how many.

A step writes its files, then its receipt; it removes the old receipt before it touches a file.
So a receipt whose fingerprint is the expected one, and whose files have the sizes it names, says
that the work need not be done again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from schemas import storage
from schemas.layout import Layout

_LOG = logging.getLogger("sensorium")


def canonical(value: Any) -> bytes:
    """JSON with one spelling: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def fingerprint(*parts: Any) -> str:
    """A hash (SHA-256, hex) of JSON-ready values or bytes, in order."""
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else canonical(part)
        whole.update(len(data).to_bytes(8, "little"))
        whole.update(data)
    return whole.hexdigest()


@dataclass(frozen=True)
class Receipt:
    """What one step did for one modality and bucket.

    Attributes:
        step, modality, bucket: what it is for.
        fingerprint: of the recipe's part, the inputs and the upstream receipts.
        counts: rows, records, duplicates, dead_letters and the like.
        files: path relative to the output -> size in bytes.
        payloads: hash of the state of the local files that records point at, if they do.
    """

    step: str
    modality: str
    bucket: int
    fingerprint: str
    counts: dict[str, int] = field(default_factory=dict)
    files: dict[str, int] = field(default_factory=dict)
    payloads: str = ""

    def to_bytes(self) -> bytes:
        """JSON, for the file."""
        return canonical(vars(self))


def read_receipt(root: str, path: str, expected: str) -> tuple[Receipt | None, bool]:
    """The receipt at `path` if it says that the work is done as expected.

    Args:
        root: the output folder that the receipt's files are relative to.
        path: where the receipt lies.
        expected: the fingerprint that it must have.

    Returns:
        The receipt, or None where the work is to be done; and whether there is any file at `path`.
    """
    try:
        receipt = Receipt(**json.loads(storage.read_bytes(path)))
    except FileNotFoundError:
        return None, False
    except (ValueError, TypeError):
        return None, True  # not one of ours: the work is done again
    if receipt.fingerprint != expected:
        return None, True
    for name, size in receipt.files.items():
        if storage.size(storage.join(root, name)) != size:
            return None, True
    return receipt, True


Work = Callable[[], tuple[dict[str, int], dict[str, int]]]
"""Does a step's work for one bucket: counts, and the files written (path -> bytes)."""


def once(
    layout: Layout,
    step: str,
    modality: str,
    bucket: int,
    expected: str,
    work: Work,
    payloads: str = "",
) -> Receipt:
    """Do a piece of work unless its receipt says that it is done.

    Args:
        layout: of the output.
        step: of the work.
        modality: that it is for, or `fused`.
        bucket: that it is for.
        expected: fingerprint of all that the work depends on.
        work: called if there is no such receipt.
        payloads: for the receipt.

    Returns:
        The receipt, old or new.
    """
    path = layout.receipt(step, modality, bucket)
    done, there = read_receipt(layout.root, path, expected)
    if done is not None:
        _LOG.info("%s %s, bucket %d: as it was", step, modality, bucket)
        return done
    if there:
        storage.remove(path)
    counts, files = work()
    named = {layout.relative(file): size for file, size in files.items()}
    receipt = Receipt(step, modality, bucket, expected, counts, named, payloads)
    storage.write_bytes(path, receipt.to_bytes())
    _LOG.info("%s %s, bucket %d: done", step, modality, bucket)
    return receipt
