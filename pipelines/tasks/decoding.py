"""Text of files that are not plain UTF-8, and text that was decoded wrongly before it was saved."""

import re

_UNDEFINED = {byte: chr(byte) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D)}  # by Windows-1252
_WINDOWS = {byte: _UNDEFINED.get(byte) or bytes([byte]).decode("cp1252") for byte in range(0x80, 0xA0)}
_TO_BYTE = {char: byte for byte, char in _WINDOWS.items()}
_UTF8 = re.compile(rb"[\xc2\xc3][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_RUN = re.compile(r"[^\x00-\x7f]+")
# “ as UTF-8, read as Windows-1252 (â€œ), written as Mac Roman (89 DB CF), read as Windows-1252 (‰ÛÏ) or 1251
# (‰ЫП). What Mac Roman lacks became "_": an ellipsis, for the most part.
_TWICE = re.compile(r"‰Û(.)|‰Ы(.)")
_CLOSING = "ù"  # Mac Roman's 9D, which Windows-1252 has not: the last byte of "”"


def from_windows(text: str) -> str:
    """Latin-1 text as Windows-1252: its control characters 80 to 9F are quotes, dashes and the like."""
    return text.translate(_WINDOWS)


def repair(text: str) -> str:
    """Put right what is plainly UTF-8 that was decoded as Windows-1252, once or by way of Mac Roman.

    ``â€™`` and ``‰Ûª`` become ``’``, ``Â£`` becomes ``£``; what cannot be told stays as it is.
    """
    if text.isascii():
        return text
    return _RUN.sub(_decode_run, _TWICE.sub(_undo_mac, text).replace(f"â€{_CLOSING}", "”"))


def _undo_mac(match: re.Match[str]) -> str:
    char, codec = (match[1], "cp1252") if match[1] else (match[2], "cp1251")
    if char == "_":
        return "…"
    try:
        byte = char.encode(codec)
    except UnicodeEncodeError:
        byte = bytes([_TO_BYTE[char]]) if char in _TO_BYTE else b""
    middle = byte.decode("mac_roman")
    if middle == _CLOSING:
        return "”"
    repaired = _decode_run(f"â€{middle}")
    return repaired if len(repaired) == 1 else match[0]


def _decode_run(run: re.Match[str] | str) -> str:
    """Each UTF-8 sequence that the characters' Windows-1252 bytes form becomes its character."""
    text = run if isinstance(run, str) else run[0]
    codes = [_TO_BYTE.get(char, ord(char)) for char in text]
    if max(codes) > 0xFF:  # a character that no Windows-1252 text has: cut there, mend the rest
        cut = next(index for index, code in enumerate(codes) if code > 0xFF)
        head = _decode_run(text[:cut]) if cut else ""
        tail = _decode_run(text[cut + 1 :]) if cut + 1 < len(text) else ""
        return head + text[cut] + tail
    pieces: list[str] = []
    place, data = 0, bytes(codes)
    for match in _UTF8.finditer(data):
        try:
            char = match[0].decode()
        except UnicodeDecodeError:  # a surrogate, or an overlong form
            continue
        pieces += [text[place : match.start()], char]
        place = match.end()
    return "".join([*pieces, text[place:]])
