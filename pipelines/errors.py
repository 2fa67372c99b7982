"""What pipelines raise when something a user gave, or a trial produced, cannot be used."""


class InputError(ValueError):
    """Something a user gave cannot be used.

    Attributes:
        key: where it stands, as the user would write it (``tasks[0].files.train``, ``backbone``).
        value: what was given.
        rule: why it cannot be used.
        fix: what to do about it.
    """

    def __init__(self, key: str, value: object, rule: str, fix: str) -> None:
        super().__init__(f"{key} = {value!r}: {rule}. {fix}")
        self.key = key
        self.value = value
        self.rule = rule
        self.fix = fix

    def __reduce__(self) -> tuple[type["InputError"], tuple[str, object, str, str]]:
        return (type(self), (self.key, self.value, self.rule, self.fix))
