"""Secrets in addresses: hidden in whatever is printed, logged or sent, and kept out of the record."""

import json
import re
from urllib.parse import unquote, urlsplit

_SHOWN = "***"
# user:password@ of a URI; the password ends at the last @ before a slash or a blank.
_CREDENTIALS = re.compile(r"(?<=://)([^\s/:@]*):([^\s/]*)@")
_PARAMETERS = re.compile(
    r"([?&][\w.-]*(?:password|passwd|pwd|secret|token|key|signature)[\w.-]*=)[^&\s'\"]+", re.I
)


def hide_secrets(text: str, *uris: str | None) -> str:
    """A text without the passwords in its URIs; of the URIs given, also where the password stands alone."""
    for uri in uris:
        for secret in (password_of(uri), unquote(password_of(uri))) if uri else ():
            if secret:
                text = text.replace(secret, _SHOWN)
    return _PARAMETERS.sub(rf"\1{_SHOWN}", _CREDENTIALS.sub(rf"\1:{_SHOWN}@", text))


def password_of(uri: str) -> str:
    """The password in a URI, as it is written there; empty where there is none."""
    try:
        return urlsplit(uri).password or ""
    except ValueError:  # no URI at all
        return ""


def without_password(uri: str) -> str:
    """A URI with its user and without its password."""
    return _CREDENTIALS.sub(r"\1@", uri) if password_of(uri) else uri


def with_password(uri: str, password: str) -> str:
    """The URI that `without_password` was given."""
    scheme, _, rest = uri.partition("://")
    user, at, place = rest.partition("@")
    return f"{scheme}://{user}:{password}@{place}" if at else uri


def read_passwords(data: bytes | None) -> dict[str, str]:
    """Passwords by their URIs, as `write_passwords` has them; nothing where they cannot be read."""
    try:
        passwords = json.loads(data or b"{}")
    except ValueError:
        return {}
    return passwords if isinstance(passwords, dict) else {}
