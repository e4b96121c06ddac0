"""Messages of every store, by every way, read into events."""

from __future__ import annotations

from listener.decoding.envelopes import read_message
from listener.decoding.names import EVENT_NAMES
from listener.decoding.outcome import Channel, Decoded, Ignored, Reason, SnsConfirmation

__all__ = ["EVENT_NAMES", "Channel", "Decoded", "Ignored", "Reason", "SnsConfirmation", "decode"]


def decode(data: bytes, channel: Channel, *, source: str) -> Decoded:
    """One message in whatever envelope. Never raises, whatever the bytes. The events carry `source` as their source.

    Where the spelling of a key is in doubt both readings come as events: the object lies under one of them.
    """
    return read_message(data, channel, source)
