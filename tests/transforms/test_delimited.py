"""CSV and TSV: headers, malformed rows, bytes that are not UTF-8, blocks."""

import gzip

import pytest
from reading import plan, rows_of, write

from transforms.records import delimited
from transforms.records.sources import (
    columns_of,
    count_rows,
    parts,
    read_part,
    sample,
)


def test_a_header_whose_names_repeat(tmp_path):
    file = write(tmp_path / "a.csv", "0,1,0,,0.1,0\n1,2,3,4,5,6\n")
    assert list(columns_of(str(file), "csv")) == ["0", "1", "0.2", "Unnamed: 3", "0.1", "0.3"]
    (row,) = rows_of(plan(file, key=None, columns={"0.3": "number", "0": "text"}))
    assert (row["key"], row["0.3"], row["0"]) == ("0", 6.0, "1")


def test_byte_order_marks_blank_lines_and_line_ends(tmp_path):
    text = '\ufeff\r\n"key",v\r\n\r\na,1\r\n\r\nb,2\r\n"c\r\nc",3'
    file = write(tmp_path / "a.csv", text)
    rows = rows_of(plan(file, columns={"v": "number"}))
    assert [(r["key"], r["row"], r["v"]) for r in rows] == [
        ("a", 0, 1),
        ("b", 1, 2),
        ("c\r\nc", 2, 3),
    ]
    file = write(tmp_path / "a.jsonl", '\ufeff{"key": "a"}\r\n\n  \n{"key": "b"}')
    rows = rows_of(plan(file, format="jsonl"))
    assert [(r["key"], r["row"], r["problem"]) for r in rows] == [("a", 0, None), ("b", 1, None)]


def test_malformed_csv_rows_keep_their_numbers_and_keys(tmp_path):
    lines = [f"k{i},{i},x" if i % 3 else f"k{i},{i}" for i in range(20)]
    lines[6] = "k6,6,x,y"
    lines[9], lines[19] = "", "k19"
    file = write(tmp_path / "a.csv", "key,v,w\n" + "\n".join(lines) + "\n")
    rows = rows_of(plan(file, columns={"v": "number"}), max_rows=4)
    kept = [line for line in lines if line]
    assert [r["row"] for r in rows] == list(range(19))
    assert [r["key"] for r in rows] == [line.split(",")[0] for line in kept]
    for row, line in zip(rows, kept, strict=True):
        good = line.count(",") == 2
        assert row["v"] == (float(line.split(",")[1]) if good else None)
        assert row["problem"] == (None if good else "malformed_row")
    assert rows[0]["message"] == "2 values, not 3: 'k0,0'"
    assert rows[18]["message"] == "1 value, not 3: 'k19'"
    assert rows[6]["message"] == "4 values, not 3: 'k6,6,x,y'"


def test_malformed_rows_between_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 64)
    lines = [f"k{i}," + ('"é\n,"' if i % 2 else "ü") for i in range(200)]
    wrong = set(range(0, 30)) | {77, 78, 150, 199}
    lines = [f"k{i}" if i in wrong else line for i, line in enumerate(lines)]
    file = write(tmp_path / "a.csv", "key,t\n" + "\n".join(lines))
    rows = rows_of(plan(file, columns={"t": "text"}))
    assert [r["row"] for r in rows] == list(range(200))
    assert [r["key"] for r in rows] == [f"k{i}" for i in range(200)]
    assert {r["row"] for r in rows if r["problem"]} == wrong
    assert [r["t"] for r in rows if r["row"] not in wrong] == [
        "é\n," if i % 2 else "ü" for i in range(200) if i not in wrong
    ]


def test_a_file_of_malformed_rows_alone(tmp_path):
    file = write(tmp_path / "a.csv", "w,key\n1\n2,b,\n")
    rows = rows_of(plan(file))
    assert [(r["key"], r["problem"]) for r in rows] == [
        (None, "malformed_row"),
        ("b", "malformed_row"),
    ]
    assert rows_of(plan(write(tmp_path / "b.csv", "key\n"))) == []
    assert sample(str(tmp_path / "b.csv"), "csv").num_rows == 0


def test_characters_across_blocks_are_not_taken_for_broken_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 16)
    values = ["é", "aé", "€€", "😀", "a😀b", "ab😀"] * 30
    file = write(
        tmp_path / "a.csv", "key,t\n" + "".join(f"{i},{v}\n" for i, v in enumerate(values))
    )
    rows = rows_of(plan(file, columns={"t": "text"}))
    assert [r["t"] for r in rows] == values
    assert not any(r["problem"] for r in rows)


def test_a_quote_that_is_never_closed_stops_the_run(tmp_path):
    file = write(tmp_path / "a.csv", 'key,t\na,1\nb,"2\nc,3\nd,4\n')
    with pytest.raises(ValueError, match=r"a\.csv: a quote that row 1 opens is never closed"):
        rows_of(plan(file, columns={"t": "text"}))
    file = write(tmp_path / "b.csv", 'key,t\n"b,2\nc,3\n')
    source = plan(file, columns={"t": "text"})
    first = next(read_part(source, parts(source)[0], 9)).to_pylist()[0]
    assert first["message"] == "a quote is never closed: '\"b,2\\nc,3\\n'"


def test_a_record_longer_than_a_block_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK", 32)
    file = write(tmp_path / "a.csv", 'key,t\na,1\nb,"' + "x" * 100 + '"\n' + "c,2\n" * 9)
    with pytest.raises(ValueError, match=r"a\.csv: a record is longer than"):
        rows_of(plan(file, columns={"t": "text"}))


def test_packed_text(tmp_path):
    text = "key,v\na,1\nb,2\n"
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert count_rows(str(path), "csv") == 2
    assert [r["v"] for r in rows_of(plan(path, columns={"v": "number"}))] == [1, 2]
    path.write_bytes(gzip.compress(text.encode() * 999)[:-20])
    with pytest.raises(ValueError, match=r"a\.csv\.gz: cannot be read as CSV"):
        rows_of(plan(path, columns={"v": "text"}))


@pytest.mark.parametrize("broken", [0, 9, 39], ids=["first", "amid", "last"])
@pytest.mark.parametrize("value", [b"\xff", "\ufdd0\ufdd1".encode()], ids=["byte", "mark"])
def test_broken_text_is_found_in_any_block(tmp_path, monkeypatch, broken, value):
    monkeypatch.setattr(delimited, "BLOCK", 64)
    rows = [b"k%d,%s" % (i, value if i == broken else b"fine") for i in range(40)]
    file = write(tmp_path / "a.csv", b"key,t\n" + b"\n".join(rows))
    found = rows_of(plan(file, columns={"t": "text"}))
    expected = [(None, "not_utf8") if i == broken else ("fine", None) for i in range(40)]
    assert [(row["t"], row["problem"]) for row in found] == expected
