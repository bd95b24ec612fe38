"""Pieces of the report's HTML; text is escaped where it enters the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

MOST_CHARACTERS = 300  # of a message, a key, a label


class Markup(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def escape(value: object) -> str:
    """A value as HTML text, also for use within a quoted attribute."""
    return value if isinstance(value, Markup) else html.escape(str(value))


def tag(name: str, content: object, kind: str = "") -> Markup:
    """An element, of a class if one is given."""
    own = f' class="{kind}"' if kind else ""
    return Markup(f"<{name}{own}>{escape(content)}</{name}>")


def section(heading: str, *parts: str) -> Markup:
    """A part of the page under a heading; `parts` are HTML."""
    inner = "\n".join(part for part in parts if part)
    return Markup(f"<section>\n{tag('h2', heading)}\n{inner}\n</section>\n")


def table(
    caption: object,
    head: Sequence[object],
    rows: Iterable[Sequence[object]],
    numbers: Iterable[int] = (),
    groups: Sequence[tuple[str, int]] = (),
    strong: int | None = None,
) -> Markup:
    """A table whose first column names the rows.

    Args:
        caption: what it shows.
        head: of the columns.
        rows: their cells.
        numbers: columns that are aligned to the right.
        groups: headings over several columns, and how many; empty ones are for no heading.
        strong: the row that stands out.
    """
    right = set(numbers)
    kinds = [' class="n"' if i in right else "" for i in range(len(head))]
    lines = []
    if groups:
        above = "".join(
            f'<th scope="colgroup" colspan="{width}">{escape(text)}</th>'
            if text
            else f'<td colspan="{width}"></td>'
            for text, width in groups
        )
        lines.append(f"<tr>{above}</tr>")
    columns = zip(kinds, head, strict=True)
    heads = "".join(f'<th scope="col"{k}>{escape(h)}</th>' for k, h in columns)
    lines.append(f"<tr>{heads}</tr>\n</thead>\n<tbody>")
    for i, (first, *cells) in enumerate(rows):
        rest = "".join(f"<td{k}>{escape(c)}</td>" for k, c in zip(kinds[1:], cells, strict=True))
        kind = ' class="strong"' if i == strong else ""
        lines.append(f'<tr{kind}><th scope="row">{escape(first)}</th>{rest}</tr>')
    body = "\n".join(lines)
    return scrolling(
        f"<table>\n{tag('caption', tag('span', caption))}\n<thead>\n{body}\n</tbody>\n</table>",
        str(caption),
    )


def scrolling(content: str, label: str) -> Markup:
    """A box for HTML that may be wider than the screen; the keyboard reaches it to scroll."""
    return Markup(
        f'<div class="scroll" role="region" tabindex="0" aria-label="{html.escape(label)}">\n'
        f"{content}\n</div>"
    )


def mark(good: bool, yes: str = "yes", no: str = "no") -> Markup:
    """A tick or a cross, with its words."""
    return tag("span", f"✓ {yes}", "good") if good else tag("span", f"✗ {no}", "bad")


def short(text: str, most: int = MOST_CHARACTERS) -> str:
    """Text of bounded length."""
    return text if len(text) <= most else text[: most - 1] + "…"


def share(part: int, whole: int) -> str:
    """A share in percent; a dash of nothing."""
    return f"{part / whole:.1%}" if whole else "-"
