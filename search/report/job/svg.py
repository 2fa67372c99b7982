"""Small charts as SVG: text stays text, colours follow the page's, points say what they are.

A figure is 360 wide, as a telephone is: nothing in it becomes too small to read. Each has the same style
inside the page and as a file of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from search.escapes import show_control

WIDTH, HEIGHT = 360, 210
RIGHT, TOP, BOTTOM = 14, 24, 38
LETTER = 6.1  # of a tick's label, about
SERIES = 4  # kinds of lines and points: a, b, c, d
Points = Sequence[tuple[float, float]]

# Of the page and of a figure's file alike.
STYLE = """
svg { --ink: #222; --soft: #5a5a5a; --rule: #d8d8d8; --a: #0067a3; --b: #c04f00; --c: #00805d; --d: #9c4a77;
  --none: #fff; }
@media (prefers-color-scheme: dark) { svg { --ink: #e8e8e8; --soft: #b0b0b0; --rule: #444; --a: #62b8ee;
  --b: #ff9b5e; --c: #4ed0a3; --d: #eba0c8; --none: #181a1b; } }
@media print { svg { --ink: #000; --soft: #444; --rule: #ccc; --a: #0067a3; --b: #c04f00; --c: #00805d;
  --d: #9c4a77; --none: #fff; } }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); }
svg .soft { fill: var(--soft); }
svg .over { paint-order: stroke; stroke: var(--none); stroke-width: 4px; stroke-linejoin: round; }
svg .rule { stroke: var(--rule); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .dot { stroke-width: 1.5; }
svg .a { --own: var(--a); } svg .b { --own: var(--b); }
svg .c { --own: var(--c); } svg .d { --own: var(--d); }
svg .grey { --own: var(--soft); }
svg .line, svg .dot, svg .cross { stroke: var(--own); } svg .dot, svg .bar { fill: var(--own); }
svg .open { fill: var(--none); } svg .cross { stroke-width: 2; fill: none; }
svg .b.line { stroke-dasharray: 7 3; } svg .c.line { stroke-dasharray: 2 3; }
svg .d.line { stroke-dasharray: 9 3 2 3; } svg .grey.line { stroke-width: 1; opacity: .55; }
svg .thin { stroke-width: 1; stroke-dasharray: 4 4; }
"""


@dataclass(frozen=True)
class Axis:
    """A side of a figure.

    Attributes:
        names: for places 0, 1, …: then it has no numbers.
    """

    label: str
    low: float
    high: float
    log: bool = False
    names: tuple[str, ...] = ()
    whole: bool = False

    @classmethod
    def over(cls, label: str, values: Sequence[float], *, log: bool = False, whole: bool = False) -> "Axis":
        """One on which all values have room; logarithmic only where they are above 0 and a decade apart."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        if log and 0 < 10 * low <= high:
            room = (high / low) ** 0.05
            return cls(label, low / room, high * room, log=True)
        if low == high:
            low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
        room = 0.06 * (high - low)
        return cls(label, low - room, high + room, whole=whole)

    @classmethod
    def of_names(cls, label: str, names: Sequence[str]) -> "Axis":
        """One with a place for each name."""
        return cls(label, -0.5, len(names) - 0.5, names=tuple(names))

    def share(self, value: float) -> float:
        """Where a value lies, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Where to write what."""
        if self.names:
            step = math.ceil(len(self.names) / max(most, 1))
            return [(place, name) for place, name in enumerate(self.names) if place % step == 0]
        return _log_ticks(self.low, self.high, most) if self.log else _ticks(self, most)


def _ticks(axis: Axis, most: int) -> list[tuple[float, str]]:
    step = 10.0 ** math.floor(math.log10((axis.high - axis.low) / most))
    step = next(step * by for by in (1, 2, 5, 10, 20) if (axis.high - axis.low) / (step * by) <= most)
    if axis.whole:
        step = max(1.0, float(round(step)))
    first = math.ceil(axis.low / step - 1e-9)
    last = math.floor(axis.high / step + 1e-9)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [(step * n, f"{step * n:.{decimals}f}") for n in range(first, last + 1)]


def _log_ticks(low: float, high: float, most: int) -> list[tuple[float, str]]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**decade for decade in decades for step in steps]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            break
    step = math.ceil(len(found) / most)
    return [(value, short(value)) for value in found[::step]]


def short(value: float) -> str:
    """A number in few characters: 3e-5, 0.004, 25, 12345."""
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


@dataclass
class Plot:
    """A figure that is being drawn. What is drawn first lies below."""

    x: Axis
    y: Axis
    title: str
    about: str
    height: int = HEIGHT
    _parts: list[str] = field(default_factory=list)
    _legend: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._y_ticks = self.y.ticks(5)
        self._left = 12 + LETTER * max((len(name) for _, name in self._y_ticks), default=1)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies on the drawing."""
        across, up = self.x.share(x), self.y.share(y)
        return (
            self._left + across * (WIDTH - self._left - RIGHT),
            TOP + (1 - up) * (self.height - TOP - BOTTOM),
        )

    def line(self, points: Points, kind: str, *, name: str = "", tip: str = "") -> None:
        """Points joined."""
        if not points:
            return
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.at(*point) for point in points))
        self._parts.append(f"<polyline class='{kind} line' points='{path}'>{_tip(tip)}</polyline>")
        self._name("line", kind, name)

    def steps(self, points: Points, kind: str, *, end: float, name: str = "") -> None:
        """A line that keeps each value until the next."""
        stepped: list[tuple[float, float]] = []
        for x, y in points:
            if stepped:
                stepped.append((x, stepped[-1][1]))
            stepped.append((x, y))
        if stepped:
            self.line([*stepped, (end, stepped[-1][1])], kind, name=name)

    def dots(
        self,
        points: Points,
        kind: str,
        *,
        tips: Sequence[str] = (),
        name: str = "",
        radii: Sequence[float] = (),
    ) -> None:
        """A disc a point; `kind` with "open": a ring."""
        for place, point in enumerate(points):
            x, y = self.at(*point)
            tip = tips[place] if tips else ""
            radius = radii[place] if radii else 3.5
            self._parts.append(
                f"<circle class='{kind} dot' cx='{x:.1f}' cy='{y:.1f}' r='{radius:.1f}'>{_tip(tip)}</circle>"
            )
        if points:
            self._name("dot", kind, name)

    def crosses(self, points: Points, kind: str, *, tips: Sequence[str] = (), name: str = "") -> None:
        """A cross a point."""
        for place, point in enumerate(points):
            x, y = self.at(*point)
            tip = tips[place] if tips else ""
            path = f"M{x - 3:.1f} {y - 3:.1f}l6 6m0 -6l-6 6"
            self._parts.append(f"<path class='{kind} cross' d='{path}'>{_tip(tip)}</path>")
        if points:
            self._name("cross", kind, name)

    def bars(self, heights: Sequence[float], kind: str, *, tips: Sequence[str], texts: Sequence[str]) -> None:
        """A bar for each place of an axis of names, with a text above it."""
        for place, value in enumerate(heights):
            (x, top), (_, base) = self.at(place, value), self.at(place, max(0.0, self.y.low))
            width = 0.6 * (WIDTH - self._left - RIGHT) / len(heights)
            self._parts.append(
                f"<rect class='{kind} bar' x='{x - width / 2:.1f}' y='{min(top, base):.1f}' "
                f"width='{width:.1f}' height='{abs(base - top):.1f}'>{_tip(tips[place])}</rect>"
                f"<text x='{x:.1f}' y='{min(top, base) - 4:.1f}' text-anchor='middle'>"
                f"{_text(texts[place])}</text>"
            )

    def _name(self, shape: str, kind: str, name: str) -> None:
        if name and (shape, kind, name) not in self._legend:
            self._legend.append((shape, kind, name))

    def svg(self) -> str:
        """The figure."""
        parts = []
        bottom = self.height - BOTTOM
        for value, label in self._y_ticks:
            _, y = self.at(self.x.high, value)
            parts.append(
                f"<line class='rule' x1='{self._left:.1f}' x2='{WIDTH - RIGHT}' y1='{y:.1f}' y2='{y:.1f}'/>"
                f"<text class='soft' x='{self._left - 5:.1f}' y='{y + 4:.1f}' text-anchor='end'>"
                f"{_text(label)}</text>"
            )
        room = WIDTH - self._left - RIGHT
        longest = max((len(name) for name in self.x.names), default=6)
        for value, label in self.x.ticks(max(2, int(room / (LETTER * min(longest, 14) + 10)))):
            x, _ = self.at(value, self.y.low)
            parts.append(
                f"<line class='axis' x1='{x:.1f}' x2='{x:.1f}' y1='{bottom}' y2='{bottom + 4}'/>"
                f"<text class='soft' x='{x:.1f}' y='{bottom + 15}' text-anchor='middle'>"
                f"{_text(label if len(label) <= 14 else label[:13] + '…')}</text>"
            )
        parts.append(
            f"<line class='axis' x1='{self._left:.1f}' x2='{WIDTH - RIGHT}' y1='{bottom}' y2='{bottom}'/>"
            f"<text x='2' y='12'>{_text(self.y.label)}</text>"
            f"<text x='{WIDTH - RIGHT}' y='{self.height - 6}' text-anchor='end'>{_text(self.x.label)}</text>"
        )
        legend, more = _legend(self._legend, self.height)
        return svg([*parts, *self._parts, *legend], self.height + more, self.title, self.about)


def svg(parts: Sequence[str], height: float, title: str, about: str) -> str:
    """A drawing with its name, and what it shows for whoever does not see it."""
    words = f"{title}. {about}" if about else title
    return (
        f"<svg viewBox='0 0 {WIDTH} {height:.0f}' role='img' aria-label=\"{_text(words)}\" "
        f"xmlns='http://www.w3.org/2000/svg'>{''.join(parts)}</svg>"
    )


def as_file(drawing: str) -> bytes:
    """A figure as a file that shows the same by itself."""
    head, _, body = drawing.partition(">")
    return f"{head}><style>{STYLE}</style>{body}".encode()


def _legend(entries: Sequence[tuple[str, str, str]], height: float) -> tuple[list[str], float]:
    parts = []
    x, y = 6.0, height + 10
    for shape, kind, name in entries:
        width = 26 + LETTER * len(name)
        if x + width > WIDTH and x > 6:
            x, y = 6.0, y + 16
        mark = {
            "line": f"<path class='{kind} line' d='M{x} {y - 4}h18'/>",
            "dot": f"<circle class='{kind} dot' cx='{x + 9}' cy='{y - 4}' r='3.5'/>",
            "cross": f"<path class='{kind} cross' d='M{x + 6} {y - 7}l6 6m0 -6l-6 6'/>",
        }[shape]
        parts.append(f"{mark}<text x='{x + 23}' y='{y}'>{_text(name)}</text>")
        x += width + 8
    return parts, (y - height + 8 if entries else 0)


def _tip(text: str) -> str:
    return f"<title>{_text(text)}</title>" if text else ""


def _text(text: str) -> str:
    return escape(show_control(text, one_line=True))
