"""Texts: from the bytes of a file to text."""

from __future__ import annotations

import codecs

from schemas.recipe import TextModality
from transforms.extractors.base import BadRecord


def decode(payload: bytes, modality: TextModality) -> str:
    """Turn the bytes of a text file into text.

    UTF-8 with or without a byte order mark, or UTF-16 with one.

    Args:
        payload: the file; an empty one is an empty text.
        modality: gives `max_characters`.

    Raises:
        BadRecord: `not_utf8` or `too_long`.
    """
    least = (len(payload) - len(codecs.BOM_UTF8)) // 4  # no character has more than four bytes
    if least > modality.max_characters:
        raise _too_long(f"at least {least:,}", modality)
    encoding = "utf-8-sig"
    if payload.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        # The mark of little-endian UTF-32 begins with that of UTF-16.
        encoding = "utf-32" if payload.startswith(codecs.BOM_UTF32_LE) else "utf-16"
    if encoding == "utf-32":
        raise BadRecord("not_utf8", "the file is UTF-32; save it as UTF-8")
    try:
        text = payload.decode(encoding)
    except UnicodeDecodeError as error:
        name = "UTF-8" if encoding == "utf-8-sig" else "UTF-16, which its first bytes promise"
        found = f"byte {error.start} ({payload[error.start]:#04x}): {error.reason}"
        raise BadRecord("not_utf8", f"not {name}: {found}; save it as UTF-8") from error
    return check(text, modality)


def check(text: str, modality: TextModality) -> str:
    """The text as it is, if it may be used.

    Raises:
        BadRecord: `too_long`.
    """
    if len(text) > modality.max_characters:
        raise _too_long(f"{len(text):,}", modality)
    return text


def _too_long(found: str, modality: TextModality) -> BadRecord:
    limit = modality.max_characters
    return BadRecord("too_long", f"{found} characters; max_characters is {limit:,}")
