"""What keeps a broker from being listened to, in words, and whether waiting helps."""

from __future__ import annotations

import ssl

from manifests.errors import GpuDropError, SourceDenied, SourceUnavailable

LOGIN_HINT = "Check GPUDROP_<NAME>_USER and GPUDROP_<NAME>_PASSWORD, and what this user may do on the broker."


def denied(place: str, said: object, hint: str = LOGIN_HINT) -> SourceDenied:
    return SourceDenied(f"{place} does not let us in: {_plain(said)}.", hint=hint)


def unavailable(place: str, said: object) -> SourceUnavailable:
    hint = "Check that it runs, and its address in config.yaml. It is tried again by itself."
    return SourceUnavailable(f"{place} is out of reach: {_plain(said)}.", hint=hint)


def broken(place: str, error: Exception) -> GpuDropError:
    """For what breaks a connection or keeps it from being made. A certificate does not become better by waiting."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted(place, error.verify_message)
    if isinstance(error, TimeoutError):
        return unavailable(place, str(error) or "no answer in time")
    return unavailable(place, error)


def untrusted(place: str, said: object) -> SourceDenied:
    return SourceDenied(
        f"The certificate of {place} is not trusted: {_plain(said)}.",
        hint="Set `tls.ca_file` to the authority that signed it, and address the broker by the name in it.",
    )


def _plain(said: object) -> str:
    return (str(said) or repr(said)).strip().rstrip(".")
