"""What keeps a broker from being listened to, in words, and whether waiting helps."""

from __future__ import annotations

import re

from manifests.errors import GpuDropError, SourceDenied, SourceUnavailable

LOGIN_HINT = "Check GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD, and what this user may do on the broker."

_UNTRUSTED = re.compile(r"certificate verify failed(?:: ((?:(?!, verify that)[^(])*))?", re.IGNORECASE)
_UNWELCOME = re.compile(r"alert[ _]((?:\w+[ _])*certificate(?:[ _]\w+)*|unknown[ _]ca)\b", re.IGNORECASE)
_NO_TLS = re.compile(r"wrong[ _]version[ _]number|PLAINTEXT broker listener", re.IGNORECASE)


def denied(place: str, said: object, hint: str = LOGIN_HINT) -> SourceDenied:
    return SourceDenied(f"{place} does not let us in: {_plain(said)}.", hint=hint)


def unavailable(place: str, said: object) -> SourceUnavailable:
    # One that wants TLS, or a certificate, may just hang up.
    return SourceUnavailable(
        f"{place} is out of reach: {_plain(said)}.",
        hint="Check that it runs, its address in config.yaml, and whether it wants TLS or a certificate of this side"
        " (`tls.cert_file`). It is tried again by itself.",
    )


def broken(place: str, error: BaseException) -> GpuDropError:
    """For what breaks a connection or keeps it from being made. A certificate does not become better by waiting."""
    said = str(error) or ("no answer in time" if isinstance(error, TimeoutError) else repr(error))
    return of_tls(place, said) or unavailable(place, said)


def of_tls(place: str, said: str) -> SourceDenied | None:
    """What was said about TLS by OpenSSL, whose words every client passes on; None when it is about something else."""
    if found := _UNTRUSTED.search(said):
        return SourceDenied(
            f"The certificate of {place} is not trusted: {_plain(found[1] or 'its authority is not known here')}.",
            hint="Set `tls.ca_file` to the authority that signed it, and address the broker by the name in it.",
        )
    if found := _UNWELCOME.search(said):
        return SourceDenied(
            f"{place} does not take this side's certificate: {found[1].replace('_', ' ').lower()}.",
            hint="Set `tls.cert_file` and `tls.key_file` to a certificate of an authority that the broker trusts.",
        )
    if _NO_TLS.search(said):
        return SourceDenied(
            f"{place} does not speak TLS.",
            hint="Correct the port, or ask for a connection without TLS.",
        )
    return None


def _plain(said: object) -> str:
    return (str(said) or repr(said)).strip().rstrip(".")
