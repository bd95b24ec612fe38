"""Reading CSV and TSV: UTF-8, a header, `"` around values with delimiters or line ends in them.

Rows are numbered by record from 0, malformed ones included; blank lines are not records. Every
value is read as text. Values may hold line ends. A record is at most 4 MB.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from schemas.plan import SourcePlan
from schemas.problems import counted
from transforms.records.opening import open_file, readable, require
from transforms.records.values import Found, short, wanted

# Bytes read at once, and the longest record. Arrow reads some 32 blocks ahead, whatever it is told.
BLOCK = 4 << 20
_DELIMITER = {"csv": ",", "tsv": "\t"}
# Stands for bytes that are not UTF-8: characters that Unicode reserves for use within a program.
_NOT_UTF8 = "\ufdd0\ufdd1"
_END = "\ufdd0end of file\ufdd1"


def columns(file: str, format: str) -> dict[str, str]:
    """The header's columns, in order, each `string`.

    Names that repeat are told apart as pandas does (`a`, `a.1`); empty ones are `Unnamed: 0`.

    Raises:
        ValueError: if the file is empty or its header cannot be read.
    """
    with open_file(file) as stream, readable(file, format.upper()):
        return dict.fromkeys(_header(file, format, stream), "string")


def sample(file: str, format: str, n: int) -> pa.Table:
    """The first n well-formed rows, all columns as text."""
    with open_file(file) as stream, readable(file, format.upper()):
        names = _header(file, format, stream)
        schema = pa.schema([(name, pa.string()) for name in names])
        marked = _Marked(stream, _end_mark(format, names))
        reader = _open(marked, format, names, names, lambda row: "skip")
        batches: list[pa.RecordBatch] = []
        for batch in _batches(reader, file):
            batches.append(batch)
            if sum(map(len, batches)) >= n:
                break
        return pa.Table.from_batches(batches, schema).slice(0, n)


def count(file: str, format: str) -> int:
    """Number of records, told from the line ends; too many where values hold line ends."""
    with open_file(file) as stream, readable(file, format.upper()):
        return max(count_lines(stream) - 1, 0)


def count_lines(stream: io.BufferedReader) -> int:
    """Number of lines, the last of which may lack its end."""
    lines, last = 0, b"\n"
    while block := stream.read(BLOCK):
        lines += block.count(b"\n")
        last = block[-1:]
    return lines + (last != b"\n")


def read(file: str, source: SourcePlan) -> Iterator[Found]:
    """Rows in order, about 4 MB of the file at once.

    A row with more or fewer values than the header has the problem `malformed_row`, and the key
    that stands in the key's place, if any; bytes that are not UTF-8 are `not_utf8`.

    Raises:
        ValueError: if a column is missing, or a quote is never closed.
    """
    with open_file(file) as stream, readable(file, source.format.upper()):
        names = _header(file, source.format, stream)
        needed = wanted(source)
        require(file, needed, names)
        malformed = _Malformed(names, source)
        marked = _Marked(stream, _end_mark(source.format, names))
        reader = _open(marked, source.format, names, needed or names[:1], malformed.take_note)
        start = 0
        for batch in _batches(reader, file):
            numbers = malformed.numbers_of_valid(start, len(batch))
            start = int(numbers[-1]) + 1
            yield _found(source, numbers, batch, malformed.before(start), marked.any)
        rest = malformed.before(None)
        if rest:
            empty = pa.record_batch([pa.array([], pa.string())] * len(needed), needed)
            yield _found(source, np.empty(0, np.int64), empty, rest, marked.any)
        if not malformed.ended:
            # The end mark was swallowed by a value, and maybe many rows with it.
            last = max(start - 1, *(row for row, _, _ in rest), 0)
            raise ValueError(f"{file}: a quote that row {last} opens is never closed")


class _Malformed:
    """Malformed rows: their numbers, keys and messages, kept until rows around them are read."""

    def __init__(self, names: list[str], source: SourcePlan) -> None:
        self.delimiter = _DELIMITER[source.format]
        self.key = None if source.key is None else names.index(source.key)
        self.rows: list[tuple[int, str | None, str]] = []
        self.ended = False

    def take_note(self, row: pacsv.InvalidRow) -> str:
        if row.text.startswith(_END):
            self.ended = True
            return "skip"
        text, end, _ = row.text.replace(_NOT_UTF8, "\ufffd").partition(f"\n{_END}")
        counts = f"{counted(row.actual_columns, 'value')}, not {row.expected_columns}"
        message = f"{'a quote is never closed' if end else counts}: {short(text)}"
        self.rows.append((row.number - 1, self._key_in(row.text), message))
        return "skip"

    def _key_in(self, text: str) -> str | None:
        if self.key is None:
            return None
        try:
            values = next(csv.reader([text], delimiter=self.delimiter), [])
        except csv.Error:
            return None
        key = values[self.key] if self.key < len(values) else ""
        return None if not key or _NOT_UTF8 in key else key

    def numbers_of_valid(self, start: int, n: int) -> np.ndarray:
        """Numbers of the next n valid rows, int64[n]: those from start on that are not here."""
        numbers = np.arange(start, start + n + len(self.rows))
        return numbers[~np.isin(numbers, [row for row, _, _ in self.rows])][:n]

    def before(self, stop: int | None) -> list[tuple[int, str | None, str]]:
        """Hand over the malformed rows before a number, or all."""
        n = sum(1 for row, _, _ in self.rows if stop is None or row < stop)
        out, self.rows = self.rows[:n], self.rows[n:]
        return out


def _found(
    source: SourcePlan,
    numbers: np.ndarray,
    batch: pa.RecordBatch,
    malformed: list[tuple[int, str | None, str]],
    marked: bool,
) -> Found:
    """Valid and malformed rows, in the order of their numbers; marks are looked for if `marked`."""
    by_name = {name: batch.column(name) for name in wanted(source)}
    problems: dict[int, tuple[str, str]] = {}
    places: list[int] = []
    if malformed:
        numbers = np.concatenate([numbers, [row for row, _, _ in malformed]]).astype(np.int64)
        order = np.argsort(numbers)
        numbers = numbers[order]
        gaps = pa.nulls(len(malformed), pa.string())
        by_name = {k: pa.concat_arrays([v, gaps]).take(order) for k, v in by_name.items()}
        places = np.searchsorted(numbers, [row for row, _, _ in malformed]).tolist()
        for at, (_, _, message) in zip(places, malformed, strict=True):
            problems[at] = ("malformed_row", message)
    found = Found(numbers, by_name, problems=problems)
    for name, column in by_name.items() if marked else ():
        broken = pc.match_substring(column, _NOT_UTF8)
        if pc.any(broken).as_py():
            found.fail(broken, "not_utf8", f"column {name!r} is not UTF-8 text")
            by_name[name] = pc.if_else(broken, pa.scalar(None, pa.string()), column)
    if source.uri is not None:
        found.uri = by_name[source.uri]
    if source.key is not None:
        found.key = by_name[source.key]
        if malformed:
            there = np.zeros(len(numbers), bool)
            there[places] = True
            keys = pa.array([key for _, key, _ in malformed], pa.string())
            found.key = pc.replace_with_mask(found.key, pa.array(there), keys)
    return found


def _end_mark(format: str, names: list[str]) -> bytes:
    """A last row with one value too many, so that it is reported as malformed.

    Unless a quote before it is still open.
    """
    return f"\n{_END}{_DELIMITER[format] * len(names)}\n".encode()


def _open(
    stream: _Marked,
    format: str,
    names: list[str],
    needed: list[str],
    on_invalid: Callable[[pacsv.InvalidRow], str],
) -> pacsv.CSVStreamingReader:
    return pacsv.open_csv(
        stream,
        # Numbers of malformed rows are known without threads only.
        read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names),
        parse_options=pacsv.ParseOptions(
            delimiter=_DELIMITER[format], newlines_in_values=True, invalid_row_handler=on_invalid
        ),
        convert_options=pacsv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=needed,
            strings_can_be_null=False,
        ),
    )


def _batches(reader: pacsv.CSVStreamingReader, file: str) -> Iterator[pa.RecordBatch]:
    try:
        for batch in reader:
            if len(batch):
                yield batch
    except pa.ArrowInvalid as error:
        if "straddl" not in str(error):
            raise
        raise ValueError(
            f"{file}: a record is longer than {BLOCK >> 20} MB: a quote may never be closed; long "
            "texts can be in Parquet, JSON lines, or files of their own"
        ) from None


class _Marked(io.RawIOBase):
    """The rest of a file, with bytes that are not UTF-8 replaced by a mark, and an end mark.

    Args:
        stream: what to read from.
        end: bytes that come last.

    Attributes:
        any: whether there is a mark in what was read so far.
    """

    def __init__(self, stream: io.BufferedReader, end: bytes) -> None:
        self.stream, self.end = stream, end
        self.ready = self.held = b""
        self.done = self.any = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        size = BLOCK if size < 0 else size
        # As much as is asked for: of a short block, which marks would leave over, a row could be
        # in three.
        while len(self.ready) < size and not self.done:
            data = self.held + self.stream.read(size - len(self.ready))
            self.done = len(data) == len(self.held)
            cut = len(data) if self.done else len(data) - _unfinished(data)
            data, self.held = data[:cut], data[cut:]
            data = _mark(data)
            self.any = self.any or _NOT_UTF8.encode() in data
            self.ready += data + (self.end if self.done else b"")
        out, self.ready = self.ready[:size], self.ready[size:]
        return out


def _mark(data: bytes) -> bytes:
    try:
        data.decode()
        return data
    except UnicodeDecodeError:
        text = data.decode(errors="surrogateescape")
        return re.sub("[\udc80-\udcff]+", _NOT_UTF8, text).encode()


def _unfinished(data: bytes) -> int:
    """Number of bytes at the end, 0 to 3, that begin a character whose rest comes later."""
    for n in range(1, min(3, len(data)) + 1):
        byte = data[-n]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return n if length > n else 0
        if byte < 0x80:
            return 0
    return 0


def _header(file: str, format: str, stream: io.BufferedReader) -> list[str]:
    """Read the header, and leave the stream behind it."""
    what = f"{file}: cannot be read as {format.upper()}"

    def lines() -> Iterator[str]:
        first = True
        while line := stream.readline(BLOCK):
            if len(line) == BLOCK:
                raise ValueError(f"{what}: its header is longer than {BLOCK >> 20} MB")
            yield line.decode("utf-8-sig" if first else "utf-8")
            first = False

    try:
        for names in csv.reader(lines(), delimiter=_DELIMITER[format]):
            if names:
                return _mangled(names)
    except UnicodeDecodeError as error:
        raise ValueError(f"{what}: its header is not UTF-8 text ({error.reason})") from None
    except csv.Error as error:
        raise ValueError(f"{what}: its header is malformed ({error})") from None
    raise ValueError(f"{file}: the file is empty, without so much as a header")


def _mangled(names: list[str]) -> list[str]:
    names = [name or f"Unnamed: {at}" for at, name in enumerate(names)]
    out: dict[str, None] = {}
    for name in names:
        unique, n = name, 0
        while unique in out or (n and unique in names):
            n += 1
            unique = f"{name}.{n}"
        out[unique] = None
    return list(out)
