"""What one parameter may be."""

from typing import NamedTuple, TypeGuard

from spaces.conditions import Value

Number = int | float


class Legal(NamedTuple):
    """What a parameter may be; both bounds are included.

    Attributes:
        kind: of a number's values; `str` for one of `options`, `bool` for true or false.
        methods: the methods that have the parameter; empty: all of them.
        options: the legal texts.
        open: whether other texts are legal too: names that only a job knows.
    """

    kind: type[int] | type[float] | type[str] | type[bool]
    low: Number
    high: Number
    rule: str
    methods: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    open: bool = False

    @classmethod
    def name(cls, *options: str, methods: tuple[str, ...] = ()) -> "Legal":
        """A parameter whose value is one of these texts, or another name."""
        return cls(str, 0, 0, f"one of {', '.join(options)}, or another name", methods, options, open=True)

    @classmethod
    def text(cls, *options: str, methods: tuple[str, ...] = ()) -> "Legal":
        """A parameter whose value is one of these texts."""
        return cls(str, 0, 0, f"one of {', '.join(options)}", methods, options)

    @classmethod
    def switch(cls, methods: tuple[str, ...] = ()) -> "Legal":
        """A parameter that is on or off."""
        return cls(bool, 0, 0, "true or false", methods)

    @property
    def is_number(self) -> bool:
        return self.kind in (int, float)

    def allows(self, value: object) -> TypeGuard[Value]:
        """Whether a value is legal. A float parameter takes whole numbers too; no number is a bool."""
        if not self.is_number:
            known = self.kind is bool or (self.open and value != "") or value in self.options
            return type(value) is self.kind and known
        if type(value) is int or (type(value) is float and self.kind is float):
            return self.low <= value <= self.high
        return False
