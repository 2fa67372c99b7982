"""Secrets in addresses: hidden in whatever is printed, logged, recorded or sent."""

import re
from urllib.parse import unquote, urlsplit

HIDDEN = "***"
# user:password@ of a URI; the password ends at the last @ before a slash or a blank.
_CREDENTIALS = re.compile(r"(?<=://)([^\s/:@]*):([^\s/]*)@")
_PARAMETERS = re.compile(
    r"([?&][\w.-]*(?:password|passwd|pwd|secret|token|key|signature)[\w.-]*=)[^&\s'\"]+", re.IGNORECASE
)


def hide_secrets(text: str, *uris: str | None) -> str:
    """A text without the passwords in its URIs; of the URIs given, also where the password stands alone."""
    for uri in uris:
        password = _password_of(uri) if uri else ""
        for secret in {password, unquote(password)} - {""}:
            text = text.replace(secret, HIDDEN)
    return _PARAMETERS.sub(rf"\1{HIDDEN}", _CREDENTIALS.sub(rf"\1:{HIDDEN}@", text))


def has_secret(uri: str) -> bool:
    """Whether a URI holds a password or the like."""
    return hide_secrets(uri) != uri


def _password_of(uri: str) -> str:
    try:
        return urlsplit(uri).password or ""
    except ValueError:  # no URI at all
        return ""
