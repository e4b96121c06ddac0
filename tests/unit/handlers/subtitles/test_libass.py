"""What libass draws, looked at: the only oracle for escaping."""

import re
import subprocess

import numpy as np
import pytest

from handlers.subtitles.burn_in import write_ass
from handlers.subtitles.cues import make_cues
from handlers.subtitles.parser import parse_subtitles
from handlers.subtitles.srt import write_srt
from handlers.subtitles.vtt import write_karaoke_vtt, write_vtt
from handlers.subtitles.words import speech_of
from manifests.options import CaptionStyle
from support.media import ffmpeg
from support.requirements import require
from support.transcripts import spoken, transcript

WIDTH, HEIGHT = 960, 540
LINE = 50
"""More than the ink of one line of text here, less than that of two."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libass")

    def draw(document, at=1.0, suffix="ass"):
        (folder / f"sub.{suffix}").write_text(document, encoding="utf-8")
        source = f"color=black:s={WIDTH}x{HEIGHT}:r=10:d={at + 0.2}"
        command = [ffmpeg(), "-v", "warning", "-nostdin", "-f", "lavfi", "-i", source, "-vf", f"subtitles=sub.{suffix}"]
        command += ["-ss", str(at), "-frames:v", "1", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
        done = subprocess.run(command, check=True, capture_output=True, cwd=folder)
        require(b"failed to find any fallback" not in done.stderr, "No font is installed.", "apt install fonts-dejavu")
        return np.frombuffer(done.stdout, np.uint8).reshape(HEIGHT, WIDTH, 3).astype(int)

    return draw


def ink(picture):
    """Rows and columns that text covers."""
    rows, columns = np.nonzero(picture.max(axis=2) > 128)
    return rows.max() - rows.min(), columns.max() - columns.min()


def caption(text, style="plain"):
    cues = make_cues(speech_of(transcript(spoken(text, each=1.0))))
    assert len(cues) == 1
    return write_ass(cues, CaptionStyle(style=style), WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "hostile", [r"{\b1}", r"a\Nb", r"C:\New", r"x{y}z", "\\", r"{\an8}", r"\h", r"\\N", "{", r"\{"]
)
@pytest.mark.parametrize("style", ["plain", "fill", "pop", "box"])
def test_hostile_text_is_drawn_as_it_is_on_one_line(drawn, style, hostile):
    bare_height, bare_width = ink(drawn(caption("hold hold", style)))
    height, width = ink(drawn(caption(f"hold {hostile} hold", style)))
    assert height < LINE and abs(height - bare_height) <= 20
    assert width >= bare_width + 6 * len(hostile)


@pytest.mark.parametrize("hostile", [r"{\b1}", r"a\Nb", r"C:\New", "{y:i}x", r"\hx", "<i>x"])
@pytest.mark.parametrize("write", [write_srt, write_vtt, write_karaoke_vtt])
def test_hostile_text_stays_on_its_line_in_other_formats(drawn, write, hostile):
    suffix = "srt" if write is write_srt else "vtt"

    def shown(text):
        cues = make_cues(speech_of(transcript(spoken(text, each=1.0))))
        return ink(drawn(write(cues), suffix=suffix))

    bare, marked = shown("hold hold"), shown(f"hold {hostile} hold")
    assert marked[0] < 2 * bare[0]
    # libass never shows what stands in braces of an SRT, which has no way to escape them.
    assert marked[1] >= bare[1] + 6 * len(hostile) or (suffix == "srt" and "{" in hostile)


def test_srt_text_that_looks_like_markup_survives_a_player(drawn):
    def shown(text):
        return ink(drawn(write_srt(make_cues(speech_of(transcript(spoken(text, each=1.0))))), suffix="srt"))

    plain, marked = shown("hold hold"), shown(r"hold <i>x</i> {\an8} hold")
    assert marked[1] > plain[1] + 100 and marked[0] < 2 * plain[0]


def test_the_gap_before_a_word_is_waited_for(drawn):
    """At 1.0 s the first word is filled and the second, which starts at 1.6 s, is not."""
    document = "1\n00:00:00,000 --> 00:00:03,000\nHOLD HOLD\n"
    text = write_ass(parse_subtitles(document.encode()).cues, CaptionStyle(style="fill"), WIDTH, HEIGHT)
    text = re.sub(r"\{\\kf150\}HOLD\{\\kf150\} HOLD", r"{\\k20}{\\kf20}HOLD{\\k120}{\\kf140} HOLD", text)
    assert "\\k120" in text

    def gold(at):
        picture = drawn(text, at)
        return int(((picture[..., 0] > 200) & (picture[..., 2] < 80)).sum())

    assert gold(0.1) == 0
    half = gold(1.0)
    assert half > 50 and abs(gold(1.5) - half) <= half // 20
    assert gold(2.9) > 1.7 * half


def test_pop_and_box_mark_one_word_at_a_time(drawn):
    cues = parse_subtitles(b"1\n00:00:00,000 --> 00:00:02,000\nHOLD HOLD\n").cues
    for style, channel_low in (("pop", 2), ("box", 1)):
        document = write_ass(cues, CaptionStyle(style=style), WIDTH, HEIGHT)
        middles = []
        for at in (0.5, 1.5):
            picture = drawn(document, at)
            marked = (picture[..., 0] > 180) & (picture[..., channel_low] < 80)
            middles.append(np.nonzero(marked)[1].mean())
        assert middles[0] < WIDTH / 2 < middles[1]


def test_karaoke_of_text_from_the_right_fills_from_the_right(drawn):
    said = transcript(spoken("مرحبا بكم جميعا", each=1.0, gap=0.0), language="ar")
    document = write_ass(make_cues(speech_of(said)), CaptionStyle(style="fill"), WIDTH, HEIGHT)

    def gold(at):
        picture = drawn(document, at)
        lit = picture.max(axis=2) > 150
        return np.nonzero(lit & (picture[..., 2] < 80))[1], np.nonzero(lit)[1]

    filled, all_of_it = gold(0.98)
    assert filled.size and filled.min() > (all_of_it.min() + all_of_it.max()) / 2
    filled, _ = gold(2.9)
    assert filled.min() < all_of_it.min() + (all_of_it.max() - all_of_it.min()) / 6
