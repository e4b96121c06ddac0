"""Messages of every store, by every way, read into events."""

from __future__ import annotations

from listener.decoding.envelopes import read_message
from listener.decoding.outcome import DecodedMessage, MessageChannel


def decode_message(data: bytes, channel: MessageChannel, *, source: str) -> DecodedMessage:
    """One message in whatever envelope. Never raises, whatever the bytes. The events carry `source` as their source.

    Where the spelling of a key is in doubt both readings come as events: the object lies under one of them.
    """
    return read_message(data, channel, source)
