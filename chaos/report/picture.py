"""The comparison of modes as a picture: small ones for the page's cells, and one of the whole table, as SVG and as PNG,
for a design document.

The whole table is planned once, as texts and boxes with places, and written twice: SVG for whoever can scale, PNG for
whoever cannot show that. Both are light and stand on white, whatever the reader's theme is.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

from chaos.report.comparison import MISSING, Cell, Comparison

COLUMN, FIRST, ROW, MARGIN = 168, 140, 78, 20  # px
SCALE: Final = 2  # pixels of the PNG for each unit of the plan
_INK, _SOFT, _LINE, _BAR, _DOT, _EMPTY, _DOUBT = (
    "#1b1f24", "#57606a", "#d0d7de", "#5b8bc9", "#cf222e", "#d0d7de", "#7d4e00",
)  # fmt: skip
_DRAWN: Final = str.maketrans({"→": "to", "–": "-"})  # what the font of the PNG has no sign for
_SMALL, _PLAIN, _BIG = 11, 13, 17
_DOT_SIZE, _DOT_STEP, _BAR_WIDTH, _BAR_HEIGHT = 9, 12, 132, 8


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text. `x`, `y`: where it begins, and the height of its baseline."""

    x: int
    y: int
    text: str
    size: int = _PLAIN
    colour: str = _INK
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """A filled rectangle."""

    x: int
    y: int
    width: int
    height: int
    colour: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn, and how large it is."""

    width: int
    height: int
    shapes: tuple[Text | Box, ...]
    label: str


def cell_picture(cell: Cell) -> Markup:
    """Draw the small picture of a cell of the page; empty for a cell without one. It repeats the cell's text."""
    shapes = list(_figure(cell, 0, 0))
    if not shapes:
        return Markup()
    width = max(shape.x + shape.width for shape in shapes)
    height = max(shape.y + shape.height for shape in shapes)
    classes = {_BAR: "bar", _DOT: "dot", _EMPTY: "empty"}
    body = "".join(
        f'<rect class="{classes[shape.colour]}" x="{shape.x}" y="{shape.y}" width="{shape.width}" '
        f'height="{shape.height}"/>'
        for shape in shapes
    )
    return Markup(f'<svg class="mini" viewBox="0 0 {width} {height}" width="{width}" aria-hidden="true">{body}</svg>')


def _figure(cell: Cell, x: int, y: int) -> Iterator[Box]:
    if cell.dots is not None:
        meant, total = cell.dots
        for number in range(min(total, 40)):
            row, place = divmod(number, 11)
            yield Box(
                x + place * _DOT_STEP, y + row * _DOT_STEP, _DOT_SIZE, _DOT_SIZE, _DOT if number < meant else _EMPTY
            )
    elif cell.share is not None:
        filled = max(2, round(cell.share * _BAR_WIDTH)) if cell.share > 0 else 0
        if filled:
            yield Box(x, y, filled, _BAR_HEIGHT, _BAR)
        if filled < _BAR_WIDTH:
            yield Box(x + filled, y, _BAR_WIDTH - filled, _BAR_HEIGHT, _EMPTY)


def plan_picture(comparison: Comparison, *, title: str, footer: str) -> Picture:
    """Place every text and box of the whole table."""
    width = 2 * MARGIN + FIRST + COLUMN * max(1, len(comparison.columns))
    shapes: list[Text | Box] = []
    y = MARGIN
    for line in textwrap.wrap(title, (width - 2 * MARGIN) // 9):
        y += 22
        shapes.append(Text(MARGIN, y, line, _BIG, bold=True))
    y += 16
    headings = [textwrap.wrap(column.heading, 22) for column in comparison.columns]
    for number, lines in enumerate(headings):
        for place, line in enumerate(lines):
            shapes.append(Text(_column(number), y + 14 + 15 * place, line, _PLAIN, _SOFT, bold=True))
    y += 15 * max((len(lines) for lines in headings), default=0) + 10
    for index, mode in enumerate(comparison.modes):
        shapes.append(Box(MARGIN, y, width - 2 * MARGIN, 1, _LINE))
        shapes.append(Text(MARGIN, y + 24, mode, _PLAIN, bold=True))
        for number, column in enumerate(comparison.columns):
            shapes += _place_cell(column.cells[index], _column(number), y)
        y += ROW
    shapes.append(Box(MARGIN, y, width - 2 * MARGIN, 1, _LINE))
    y += 8
    for line in textwrap.wrap(footer, (width - 2 * MARGIN) * 10 // 57):
        y += 15
        shapes.append(Text(MARGIN, y, line, _SMALL, _SOFT))
    return Picture(width, y + MARGIN, tuple(shapes), title)


def _column(number: int) -> int:
    return MARGIN + FIRST + number * COLUMN


def _place_cell(cell: Cell, x: int, y: int) -> Iterator[Text | Box]:
    yield Text(x, y + 24, cell.text, _PLAIN, _SOFT if cell.text == MISSING else _INK)
    yield from _figure(cell, x, y + 32)
    note = "; ".join(part for part in (cell.note, cell.doubt) if part)
    rows = 2 if cell.dots is not None and cell.dots[1] > 11 else 1
    for place, line in enumerate(textwrap.wrap(note, 27)[:2]):
        yield Text(x, y + 46 + 12 * rows + 13 * place - 4, line, _SMALL, _DOUBT if cell.doubt else _SOFT)


def svg(picture: Picture) -> str:
    """Return the picture as a file of its own: no style sheet, no font, no script."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{picture.width}" height="{picture.height}" '
        f'viewBox="0 0 {picture.width} {picture.height}" font-family="system-ui, sans-serif" role="img" '
        f'aria-label="{escape(picture.label)}">',
        f'<rect width="{picture.width}" height="{picture.height}" fill="#fff"/>',
    ]
    for shape in picture.shapes:
        if isinstance(shape, Box):
            parts.append(
                f'<rect x="{shape.x}" y="{shape.y}" width="{shape.width}" height="{shape.height}" '
                f'fill="{shape.colour}"/>'
            )
        else:
            weight = ' font-weight="600"' if shape.bold else ""
            parts.append(
                f'<text x="{shape.x}" y="{shape.y}" font-size="{shape.size}" fill="{shape.colour}"{weight}>'
                f"{escape(shape.text)}</text>"
            )
    return "\n".join([*parts, "</svg>", ""])


def png(picture: Picture) -> bytes:
    """Return the picture in pixels, with the font that Pillow brings, so that it looks alike on every machine."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (SCALE * picture.width, SCALE * picture.height), "#fff")
    draw = ImageDraw.Draw(image)
    fonts = {size: ImageFont.load_default(SCALE * size) for size in (_SMALL, _PLAIN, _BIG)}
    for shape in picture.shapes:
        x, y = SCALE * shape.x, SCALE * shape.y
        if isinstance(shape, Box):
            draw.rectangle((x, y, x + SCALE * shape.width - 1, y + SCALE * shape.height - 1), fill=shape.colour)
        else:
            # No bold face comes along: a stroke of the same colour stands for one.
            stroke = 0.35 * SCALE if shape.bold else 0
            text = shape.text.translate(_DRAWN)
            draw.text((x, y), text, shape.colour, fonts[shape.size], anchor="ls", stroke_width=stroke)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
