"""Chooses among the audio tracks of a recording. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gpu_dispatch.speech_names import language_candidates
from gpu_dispatch.worker.video.audio_tracks import AudioTrack
from manifests.errors import NoAudio

MAX_TRIED = 32
"""Most tracks that are decoded in search of one that can be heard."""


def tracks_in_order(
    tracks: Sequence[AudioTrack], asked: int | str | None, name: str
) -> tuple[tuple[int, AudioTrack], ...]:
    """Returns the tracks to try with their numbers from 1, the best one first: the first that can be heard is taken.

    Without `asked` these are the default tracks, then the others, then commentaries and descriptions. Raises NoAudio,
    which lists the tracks, when none is the one `asked` for.
    """
    numbered = list(enumerate(tracks, 1))
    if isinstance(asked, int):
        found = [each for each in numbered if each[0] == asked]
    elif asked is not None:
        found = [each for each in numbered if speaks(each[1], asked)]
    else:
        found = numbered
    if not found:
        raise NoAudio(
            f"{name} has no audio track {asked!r}: it has {_listed(numbered)}.",
            hint="Give `track` the number of one of them, from 1, or its language; or leave it out.",
            where="track",
        )
    ordered = sorted(found, key=lambda each: (each[1].is_aside, not each[1].is_default, each[0]))
    return tuple(ordered[:MAX_TRIED])


def speaks(track: AudioTrack, language: str) -> bool:
    """Returns whether `track` is in `language`; containers write "eng" or "en-US", users write "en"."""
    return bool(track.language) and _plain(track.language) == _plain(language)


def _plain(tag: str) -> str:
    *_, primary = language_candidates(tag)
    return _TWO_LETTERS.get(primary, primary)


def _listed(numbered: Sequence[tuple[int, AudioTrack]]) -> str:
    told = [f"{number}{f' ({track.language})' if track.language else ''}" for number, track in numbered[:20]]
    return ("only " if len(told) == 1 else "") + ", ".join(told) + (" …" if len(numbered) > 20 else "")


_THREE_LETTERS = """
af afr|am amh|ar ara|as asm|az aze|ba bak|be bel|bg bul|bn ben|bo bod tib|br bre|bs bos|ca cat|cs ces cze
cy cym wel|da dan|de deu ger|el ell gre|en eng|es spa|et est|eu eus baq|fa fas per|fi fin|fo fao|fr fra fre|gl glg
gu guj|ha hau|haw haw|he heb|hi hin|hr hrv scr|ht hat|hu hun|hy hye arm|id ind|is isl ice|it ita|ja jpn|jw jav
ka kat geo|kk kaz|km khm|kn kan|ko kor|la lat|lb ltz|ln lin|lo lao|lt lit|lv lav|mg mlg|mi mri mao|mk mkd mac
ml mal|mn mon|mr mar|ms msa may|mt mlt|my mya bur|ne nep|nl nld dut|nn nno|no nor nob|oc oci|pa pan|pl pol|ps pus
pt por|ro ron rum|ru rus|sa san|sd snd|si sin|sk slk slo|sl slv|sn sna|so som|sq sqi alb|sr srp scc|su sun|sv swe
sw swa|ta tam|te tel|tg tgk|th tha|tk tuk|tl tgl|tr tur|tt tat|uk ukr|ur urd|uz uzb|vi vie|yi yid|yo yor|zh zho chi
ga gle|ky kir|ku kur|ig ibo|zu zul|xh xho|rw kin
"""
"""ISO 639-1 codes, or Whisper's own, each with its codes in ISO 639-2."""

_TWO_LETTERS = {
    three: two
    for two, *others in (line.split() for line in _THREE_LETTERS.strip().replace("\n", "|").split("|"))
    for three in others
}
