"""What a figure shows, as data: rows of panels, and the lines of each."""

from dataclasses import dataclass, field

# Okabe and Ito's colours, which colour-blind readers tell apart; pages replace them by those of their style sheet.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f6000")
MARKS = ("o", "s", "^", "D", "v", "P", "X")
INK, SOFT, GRID, PAPER = "#1b1f24", "#59636e", "#e4e8ec", "#ffffff"
FIXED = {"original": SOFT, "retrain": INK}  # what all else is compared with
DENSE = 20  # points of a line beyond which it has no marks


@dataclass
class Line:
    """What is drawn in one colour, under one name.

    name: shown beside it; "" for none.
    x, y: equally many numbers.
    half: half-widths of y's intervals, as many, or two lists of them, below and above; NaN where there is none.
    kind: ``line``, ``points`` (named at the first), ``named`` (each with its name) or ``law`` (thin, without marks).
    colour: a number, the same for the same thing in all panels, or a name of `FIXED`.
    link: where it leads to, on a page; "" for nowhere.
    """

    name: str
    x: list
    y: list
    half: list | tuple = ()
    kind: str = "line"
    colour: int | str = 0
    link: str = ""

    @property
    def shade(self):
        """The colour as text."""
        return FIXED[self.colour] if self.colour in FIXED else COLOURS[self.colour % len(COLOURS)]

    @property
    def mark(self):
        """Matplotlib's name of the shape of its points; "" for a line with too many to be shown one by one."""
        if self.kind == "line" and len(self.x) > DENSE:
            return ""
        fixed = {"original": "s", "retrain": "D"}
        return fixed[self.colour] if self.colour in FIXED else MARKS[self.colour // len(COLOURS) % len(MARKS)]


@dataclass
class Panel:
    """A pair of axes and what is drawn in them.

    title, x, y: texts.
    lines: see `Line`.
    levels: name → y, drawn from side to side.
    log: whether x is logarithmic.
    ticks: x → text, instead of round numbers.
    diagonal: whether y = x is drawn.
    guides: name → x, drawn from bottom to top.
    key: whether the names of lines stand in a key above the axes instead of at the lines' ends.
    limits: (low, high) of both axes; None: by the data.
    floor: where y begins; None: by the data.
    span: the least that y spans without a floor.
    """

    title: str
    x: str
    y: str
    lines: list
    levels: dict = field(default_factory=dict)
    log: bool = False
    ticks: dict = field(default_factory=dict)
    diagonal: bool = False
    guides: dict = field(default_factory=dict)
    key: bool = False
    limits: tuple | None = None
    floor: float | None = None
    span: float = 2

    @property
    def ends(self):
        """The lines that are named at their ends."""
        return [line for line in self.lines if line.kind == "line" and line.name and not self.key]
