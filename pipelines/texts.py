"""What a text may hold."""


def has_surrogate(text: str) -> bool:
    """Whether a text has half of a character's pair, which JSON's escapes allow and no encoding writes."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
