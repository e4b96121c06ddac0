"""What a failed TLS handshake means. Pure: every client passes on the words of OpenSSL or rustls."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

TlsProblem = Literal[
    "plain_http", "https_expected", "untrusted", "expired", "wrong_host", "client_certificate", "handshake"
]


@dataclass(frozen=True, slots=True)
class TlsFailure:
    """`reason` completes "PLACE cannot be used: …"."""

    problem: TlsProblem
    reason: str
    hint: str

    @property
    def lasting(self) -> bool:
        """Whether asking again cannot help before somebody has acted."""
        return self.problem != "handshake"


_VERIFY = re.compile(r"certificate verify failed(?:: ((?:(?!, verify that)[^(\n])*))?", re.IGNORECASE)
_UNWELCOME = re.compile(
    r"alert[ _]((?:[a-z0-9]+[ _]){0,4}certificate(?:[ _][a-z0-9]+){0,4}|unknown[ _]ca)\b"
    r"|AlertReceived\(\s*(\w*Certificate\w*|UnknownCA|AccessDenied)",
    re.IGNORECASE,
)
_SIGNS: dict[TlsProblem, str] = {
    "https_expected": r"HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS|SSL: HTTP_REQUEST",
    "plain_http": r"wrong[ _]version[ _]number|record[ _]layer[ _]failure|packet[ _]length[ _]too[ _]long"
    r"|InvalidMessage\(\s*InvalidContentType|PLAINTEXT broker listener",
    "expired": r"certificate (?:has expired|is not yet valid)|\b(?:Expired|NotValidYet)(?:Context\b|,|\))",
    "wrong_host": r"(?:Hostname|IP address) mismatch|doesn't match|\bNotValidForName",
    "untrusted": r"certificate[ _]verify[ _]failed|InvalidCertificate\(|self[- ]signed certificate|UnknownIssuer",
    "handshake": r"\[SSL\b|handshake|(?:AlertReceived|PeerIncompatible|PeerMisbehaved|InvalidMessage)\("
    r"|unsupported[ _]protocol|no[ _]protocols[ _]available",
}
"""In this order: the words of a later one may stand beside those of an earlier one.

Strangers write what is searched: no pattern here may try a text in more ways than it is long.
"""
_PATTERNS: dict[TlsProblem, re.Pattern[str]] = {
    problem: re.compile(sign, re.IGNORECASE) for problem, sign in _SIGNS.items()
}


def tls_failure(said: str, *, ca_setting: str = "", key_setting: str = "") -> TlsFailure | None:
    """What `said`, the text of a client's error, tells about TLS; None when it is about something else.

    `ca_setting` names the setting for an authority of one's own, `key_setting` those for a certificate of this side.
    """
    if found := _UNWELCOME.search(said):
        what = (found[1] or found[2]).replace("_", " ").lower()
        hint = f"Set {key_setting} to a certificate of an authority that it trusts." if key_setting else _NO_CLIENT
        return TlsFailure("client_certificate", f"it does not take this side's certificate ({what})", hint)
    for problem, pattern in _PATTERNS.items():
        if pattern.search(said):
            return _failure(problem, said, ca_setting)
    return None


def _failure(problem: TlsProblem, said: str, ca_setting: str) -> TlsFailure:
    reason, hint = _WORDS[problem]
    if problem == "untrusted":
        found = _VERIFY.search(said)
        why = (found[1] or "").strip().rstrip(".") if found else ""
        reason = f"{reason}: {why or 'its authority is not known here'}"
        if ca_setting:
            hint = f"Set {ca_setting} to the certificate of the authority that signed it (PEM)."
    return TlsFailure(problem, reason, hint)


_NO_CLIENT = "It asks for a certificate of this side, which is not supported here: use another address."
_WORDS: dict[TlsProblem, tuple[str, str]] = {
    "plain_http": ("it does not speak TLS at this port", "Write http:// instead of https://, or correct the port."),
    "https_expected": ("it speaks TLS only", "Write https:// instead of http://, or correct the port."),
    "untrusted": (
        "its certificate is not trusted",
        "Give the server a certificate of a known authority, or use another address.",
    ),
    "expired": (
        "its certificate is not valid at this time",
        "Renew the server's certificate; check this machine's clock and the server's.",
    ),
    "wrong_host": (
        "its certificate is for another host",
        "Use a host name that stands in the certificate, or have one made for this name.",
    ),
    "handshake": (
        "the TLS handshake failed",
        "Check that the server speaks TLS 1.2 or 1.3 at this port, and what stands between.",
    ),
}
