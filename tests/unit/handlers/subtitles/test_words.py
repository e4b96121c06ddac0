import json
import math
from dataclasses import replace

from hypothesis import given

from gpu_dispatch.transcript import Segment
from handlers.subtitles.text import cells, plain_line, tokens
from handlers.subtitles.words import speech_of
from handlers.subtitles.wordsjson import read_words_json, write_words_json
from support.transcripts import SPECIAL, segment, steady_transcripts, transcript, wild_transcripts


def squeezed(texts):
    return "".join("".join(texts).split())


@given(wild_transcripts)
def test_words_are_all_kept_in_order_and_their_times_run_forwards(given_):
    speech = speech_of(given_)
    said = []
    for seg in given_.segments:
        own = [plain_line(w.text) for w in seg.words if plain_line(w.text)]
        said += own or [t.strip(" ") for t in tokens(seg.text)]
    assert squeezed(w.text for w in speech.words) == squeezed(said)
    clock = 0
    for word in speech.words:
        assert clock <= word.start_ms < word.end_ms
        assert 0 <= word.probability <= 1
        clock = word.end_ms


@given(steady_transcripts)
def test_times_that_are_right_stay_as_they_are(given_):
    said = [w for w in given_.words if plain_line(w.text)]
    words = speech_of(given_).words
    assert {w.start_ms / 1000 for w in words} <= {w.start for w in said}
    assert {w.end_ms / 1000 for w in words} <= {w.end for w in said}


def test_a_time_that_contradicts_all_others_is_laid_between_its_neighbours():
    speech = speech_of(
        transcript(segment([(" a", 1, 1.5), (" b", 900, 901), (" c", 2, 2.5), (" d", math.nan, 3), (" e", 4, 5)]))
    )
    times = [(w.start_ms, w.end_ms) for w in speech.words]
    assert times[0][0] == 1000 and times[1][1] <= 2000
    assert times[2][0] == 2000 and times[3][1] <= 4000
    assert times[4] == (4000, 5000)


def test_words_of_no_length_share_the_time_to_the_next_one():
    speech = speech_of(transcript(segment([(" one", 1, 1), (" two", 1, 1), (" three", 1, 2), (" four", 2, 3)])))
    assert [w.start_ms for w in speech.words] == sorted({w.start_ms for w in speech.words})
    assert speech.words[2].end_ms == 2000


def test_a_segment_without_words_is_spread_over_its_text():
    speech = speech_of(transcript(Segment(0, 1.0, 3.0, " ab cd")))
    assert [(w.text, w.start_ms, w.end_ms) for w in speech.words] == [("ab", 1000, 2000), (" cd", 2000, 3000)]
    assert not speech.timed


def test_scripts_without_spaces_are_divided_between_signs_and_measured_double():
    assert tokens("日本語。です") == ("日", "本", "語。", "で", "す")
    assert tokens("「はい」 yes") == ("「", "は", "い」", " yes") or "".join(tokens("「はい」 yes")) == "「はい」 yes"
    assert cells("日本") == 4 and cells("e\u0301") == 1


def test_every_token_joined_is_the_text():
    for text in SPECIAL:
        assert "".join(tokens(text)) == plain_line(text)


@given(wild_transcripts)
def test_words_json_is_strict_json_and_reads_back(given_):
    speech = speech_of(given_)
    text = write_words_json(given_, speech, language="en")
    data = json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name)))
    assert set(data) == {"language", "source_language", "language_probability", "duration", "text", "words", "segments"}
    if speech.timed and speech.words:
        again = speech_of(read_words_json(text)).words
        assert squeezed(w.text for w in again) == squeezed(w.text for w in speech.words)
        assert {w.start_ms for w in again} <= {w.start_ms for w in speech.words}


def test_words_json_keeps_where_spaces_were_without_writing_them():
    given_ = transcript(segment([(" twenty", 0, 1), ("-five", 1, 2), (" 日", 2, 3), ("本", 3, 4)]))
    text = write_words_json(given_, speech_of(given_), language="en")
    assert [w["word"] for w in json.loads(text)["words"]] == ["twenty-five", "日", "本"]
    assert read_words_json(text).text == "twenty-five 日本"


def test_earlier_shapes_of_words_json_are_read():
    word = {"word": "Hello", "start": 0.0, "end": 0.5}
    for shape in ([word], {"words": [word]}, {"word_timestamps": [word]}, {"segments": [{"words": [word]}]}):
        assert [w.text.strip() for w in read_words_json(json.dumps(shape)).words] == ["Hello"]


def test_words_json_tells_the_language_of_a_segment_where_they_differ():
    said = [replace(segment([(" Hello", 0, 1)]), language="en"), segment([(" Olá", 1, 2)])]
    written = json.loads(write_words_json(transcript(*said), speech_of(transcript(*said)), language="en"))
    assert [entry.get("language") for entry in written["segments"]] == ["en", None]
