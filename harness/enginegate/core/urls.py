"""URLs as they may be shown and stored: without what they know and nobody else should."""

from __future__ import annotations

import re

#: Stands where a secret was.
MASK = "***"

#: Names of query parameters whose values are secrets, by a part of the name. ``odbc_connect`` holds a whole connection
#: string, with its password.
_SECRET = re.compile(r"passw|pwd|^pass$|secret|token|api_?key|odbc_connect", re.IGNORECASE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S.*", re.DOTALL)


def without_password(text: str) -> str:
    """A text that may hold one URL (``--history=postgresql://…``), with the URL's passwords and tokens masked.

    That is the password before the host, and every query parameter named like one. A text without a secret stays as it
    is. What SQLAlchemy cannot read is masked from ``://`` to its last ``@``.
    """
    found = _URL.search(text)
    if found is None:
        return text
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    before, address = text[: found.start()], found[0]
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        return before + _masked_roughly(address)
    secrets = [name for name in url.query if _SECRET.search(name)]
    if url.password is None and not secrets:
        return text
    if "@" in (url.host or ""):  # a password with an @ that is not written as %40: a part of it is taken for the host
        return before + _masked_roughly(address)
    shown = url.update_query_dict(dict.fromkeys(secrets, MASK)).render_as_string(hide_password=True)
    return before + shown.replace("%2A%2A%2A", MASK)


def _masked_roughly(address: str) -> str:
    authority = re.sub(r"://.*@", f"://{MASK}@", address, count=1, flags=re.DOTALL)
    parts = re.split(r"([?&;])", authority)
    return "".join(_masked_parameter(part) if number else part for number, part in enumerate(parts))


def _masked_parameter(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}={MASK}" if equals and _SECRET.search(name) else part
