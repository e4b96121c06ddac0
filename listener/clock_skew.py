"""The difference between this machine's clock and a server's, from a refusal or a Date header. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

CODES = frozenset({"RequestTimeTooSkewed", "XMinioRequestTimeTooSkewed"})
"""Error codes of servers for a request whose time is too far from theirs."""

HINT = "Set this machine's clock, or the server's, and keep both by NTP: requests are good for 15 minutes."

_ELEMENT = r"<{0}>\s*([0-9TZ:.+-]{{8,40}})\s*</{0}>"
_OURS = re.compile(_ELEMENT.format("RequestTime"))
_THEIRS = re.compile(_ELEMENT.format("ServerTime"))


def in_refusal(text: str) -> float | None:
    """Returns the seconds by which our clock is ahead, from a refusal's elements; None without valid ones."""
    ours, theirs = _OURS.search(text), _THEIRS.search(text)
    if not ours or not theirs:
        return None
    try:
        return (_moment(ours[1]) - _moment(theirs[1])).total_seconds()
    except ValueError:
        return None


def from_header(date: str | None, now: float) -> float | None:
    """Returns the seconds by which our clock (`now`, epoch seconds) is ahead of the Date header; None without one."""
    try:
        return now - parsedate_to_datetime(date).timestamp() if date else None
    except ValueError:
        return None


def between_headers(sent: str | None, date: str | None) -> float | None:
    """Returns the seconds by which a request's x-amz-date is ahead of its response's Date; None without both."""
    try:
        return from_header(date, _moment(sent).timestamp()) if sent else None
    except ValueError:
        return None


def in_words(ahead_s: float | None) -> str:
    """Returns the difference as a clause of an error message."""
    if ahead_s is None:
        return "this machine's clock and the server's differ too much"
    return f"this machine's clock is {abs(ahead_s):,.0f} s {'ahead of' if ahead_s >= 0 else 'behind'} the server's"


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
