"""Published workers, asked in their words; what they answer, taken from recordings of them."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from pathlib import Path

import pytest
import requests
from faster_whisper.tokenizer import _LANGUAGE_CODES
from hypothesis import given
from hypothesis import strategies as st

from gpu_dispatch.runpod.dialects.common import unsupported
from gpu_dispatch.runpod.dialects.faster_whisper import FasterWhisperDialect
from gpu_dispatch.runpod.dialects.registry import dialects
from gpu_dispatch.runpod.dialects.transcripts import CODES, ForeignTranscript, place
from gpu_dispatch.runpod.dialects.whisper_hub import WhisperHubDialect
from gpu_dispatch.task import (
    AddAudioParams,
    GpuTask,
    TaskInput,
    TranscribeParams,
)
from gpu_dispatch.transcript import Segment, Transcript, Word
from gpu_dispatch.wire import result_from_wire, result_to_wire
from handlers.subtitles.words import speech_of
from manifests.errors import TaskRefused
from manifests.options import RawPcm, RecognitionOptions, SoundSource

HUB, FASTER = WhisperHubDialect(), FasterWhisperDialect()
BOTH = pytest.mark.parametrize("dialect", [HUB, FASTER], ids=lambda d: d.name)
SHAPES = Path(__file__).parents[3] / "support" / "runpod_shapes"
RECORDED = {dialect.name: json.loads((SHAPES / f"{dialect.name}.json").read_text()) for dialect in (HUB, FASTER)}
SIGNED = "https://store.example/media/talk.flac?X-Amz-Expires=3600&X-Amz-Signature=" + "f" * 300


def task(url=SIGNED, **params) -> GpuTask:
    return GpuTask("t", TranscribeParams(audio="audio.flac", **params), (TaskInput("audio.flac", url),))


def heard(dialect, case) -> Transcript:
    recorded = RECORDED[dialect.name][case]
    result = dialect.result("job-1", recorded.get("output"), recorded.get("error"))
    assert result.error is None and result.task_id == "job-1"
    assert result_from_wire(json.loads(json.dumps(result_to_wire(result)))) == result
    return result.payload


def failed(dialect, case) -> tuple[str, bool, str]:
    recorded = RECORDED[dialect.name][case]
    result = dialect.result("job-1", recorded.get("output"), recorded.get("error"))
    assert result.payload is None
    return result.error.code, result.error.retryable, result.error.message


@BOTH
def test_only_workers_of_ours_claim(dialect):
    assert not dialect.claims and dialect.progress({"percent": 50}) is None
    assert {name: dialects().get(name).claims for name in dialects().names} == {
        "gpudrop": True,
        "whisper-hub": False,
        "worker-faster_whisper": False,
    }


@BOTH
def test_words_are_put_into_their_segments(dialect):
    transcript = heard(dialect, "words")
    first, second = transcript.segments
    assert "".join(w.text for w in first.words) == first.text
    assert "".join(w.text for w in second.words) == second.text
    assert first.text == " And so, my fellow Americans ask not what your country can do for you"
    assert transcript.text == RECORDED[dialect.name]["words"]["output"]["transcription"]
    assert speech_of(transcript).timed
    assert [s.id for s in transcript.segments] == [0, 1]
    assert transcript.duration == second.words[-1].end == second.end
    assert (transcript.language, transcript.model, transcript.device) == ("en", "base", "cpu")


@BOTH
def test_each_of_many_segments_has_its_own_words(dialect):
    transcript = heard(dialect, "two-segments")
    assert len(transcript.segments) >= 4
    for segment in transcript.segments:
        assert "".join(w.text for w in segment.words) == segment.text


@BOTH
def test_without_a_list_of_words_the_segments_have_none(dialect):
    transcript = heard(dialect, "no-words")
    assert len(transcript.segments) == 2 and transcript.words == ()
    assert not speech_of(transcript).timed


def test_the_engine_is_told():
    assert heard(HUB, "words").engine == "openai-whisper"
    assert heard(FASTER, "words").engine == "faster-whisper"


def test_silence_is_a_transcript_without_segments():
    transcript = heard(FASTER, "silence")
    assert transcript.segments == () and transcript.duration == 0.0 and transcript.text == ""


def test_a_translation_is_read_from_the_document_it_comes_as():
    transcript = heard(FASTER, "translate")
    srt = RECORDED[FASTER.name]["translate"]["output"]["translation"]
    assert srt.count("-->") == len(transcript.segments) > 2
    assert transcript.segments[0].start == 0.0 and transcript.segments[0].end == 5.02
    assert all(s.text.startswith(" ") and s.text.strip() in srt and not s.words for s in transcript.segments)
    assert [s.start for s in transcript.segments] == sorted(s.start for s in transcript.segments)


@BOTH
def test_a_file_that_was_not_fetched_is_a_transfer_that_failed(dialect):
    code, retryable, message = failed(dialect, "missing")
    assert (code, retryable) == ("transfer_failed", True)
    assert "could not fetch" in message


@pytest.mark.parametrize("segments", [[], [{"start": 0.0, "end": 2.0, "text": " None", "tokens": [6045]}]])
def test_the_word_none_in_place_of_a_transcript_is_a_transfer_that_failed(segments):
    output = {"segments": segments, "transcription": "None", "detected_language": "en", "translation": None}
    result = FASTER.result("j", output | {"device": "cuda", "model": "base"}, None)
    assert result.error.code == "transfer_failed" and result.error.retryable


@BOTH
@pytest.mark.parametrize("case", ["not-media", "empty"])
def test_a_file_that_cannot_be_read_is_never_tried_again(dialect, case):
    code, retryable, message = failed(dialect, case)
    assert (code, retryable) == ("media_unreadable", False)
    assert "Invalid data" in message


@BOTH
@pytest.mark.parametrize("case", ["bad-model", "unknown-field"])
def test_what_the_worker_does_not_take_is_refused(dialect, case):
    assert failed(dialect, case)[:2] == ("task_refused", False)


@BOTH
def test_no_signature_gets_into_a_message(dialect):
    for case in RECORDED[dialect.name]:
        if "error" in RECORDED[dialect.name][case]:
            message = failed(dialect, case)[2]
            assert "X-Amz" not in message and "fff" not in message
            assert len(message) < 700


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "worker_crashed", True),
        ("job timed out after 1 retries", "worker_crashed", True),
        ("Failed to load model turbo: no space left", "model_unavailable", False),
        (
            {"message": "HTTPSConnectionPool: Max retries exceeded with url: /a?X-Amz-Signature=s"},
            "transfer_failed",
            True,
        ),
        ("'NoneType' object is not iterable", "worker_error", False),
        (["a", {"detail": "b"}, 3], "worker_error", False),
        (True, "worker_error", False),
    ],
)
@BOTH
def test_what_workers_say_when_they_fail(dialect, error, code, retryable):
    for given_error, output in ((error, None), (None, {"error": error})):
        info = dialect.result("j", output, given_error).error
        assert (info.code, info.retryable) == (code, retryable)
        assert "Signature" not in info.message and info.message.startswith(f"The {dialect.name} worker ")


@BOTH
def test_nothing_usable_leaves_the_answer_to_the_store(dialect):
    for output in (None, {}, "", []):
        assert dialect.result("j", output, None) is None


@BOTH
@pytest.mark.parametrize("output", ["text", 7, [1], {"images": []}, {"segments": {}}, {"transcription": "words"}])
def test_an_output_that_is_no_transcript_is_told_as_such(dialect, output):
    info = dialect.result("j", output, None).error
    assert info.code == "worker_error" and not info.retryable and "dialect" in info.hint


@BOTH
def test_numbers_may_be_written_as_text_and_fields_may_be_null(dialect):
    segments = [
        {"id": "9", "start": "1.5", "end": "3.25", "text": "Olá mundo", "temperature": None, "avg_logprob": "-0.2"},
        {"start": None, "end": True, "text": None},
        {"text": "tchau", "start": 4, "end": 3, "no_speech_prob": "NaN", "tokens": ["1", 2, None]},
        "no segment",
    ]
    words = [
        {"word": "Olá", "start": "1.5", "end": "2"},
        {"word": "mundo", "start": 2, "end": "3.25"},
        {"word": " "},
        5,
    ]
    output = {"segments": segments, "word_timestamps": words, "detected_language": "PT", "model": None}
    transcript = dialect.result("j", output, None).payload
    first, last = transcript.segments
    assert (first.start, first.end, first.avg_logprob, first.text) == (1.5, 3.25, -0.2, " Olá mundo")
    assert [(w.text, w.start, w.end) for w in first.words] == [(" Olá", 1.5, 2.0), (" mundo", 2.0, 3.25)]
    assert (last.start, last.end, last.no_speech_prob, last.tokens, last.words) == (4.0, 4.0, 0.0, (2,), ())
    assert (transcript.language, transcript.model, transcript.device) == ("pt", "", "unknown")


def test_stripped_words_get_the_spaces_that_their_text_has():
    output = {
        "segments": [{"start": 0, "end": 3, "text": "twenty-one isn't 21 %"}, {"start": 3, "end": 4, "text": "next"}],
        "word_timestamps": [
            {"word": word, "start": i * 0.6, "end": i * 0.6 + 0.6}
            for i, word in enumerate(["twenty", "-one", "isn't", "21", "%", "next"])
        ],
        "detected_language": "en",
    }
    first, second = HUB.result("j", output, None).payload.segments
    assert [w.text for w in first.words] == [" twenty", "-one", " isn't", " 21", " %"]
    assert [w.text for w in second.words] == [" next"]


def test_languages_without_spaces_get_none():
    output = {
        "segments": [{"start": 0, "end": 2, "text": "今日は"}, {"start": 2, "end": 3, "text": "晴れ"}],
        "word_timestamps": [{"word": w, "start": i, "end": i + 1} for i, w in enumerate(["今日", "は", "晴れ"])],
        "detected_language": "ja",
    }
    transcript = HUB.result("j", output, None).payload
    assert transcript.text == "今日は晴れ"
    assert [[w.text for w in s.words] for s in transcript.segments] == [["今日", "は"], ["晴れ"]]


_WORDS = st.lists(st.sampled_from(["ask", "not", "you", "can"]), min_size=1, max_size=5)


@given(st.lists(st.tuples(st.integers(0, 2000), _WORDS), min_size=1))
def test_words_that_were_one_list_find_their_segments_again(drawn):
    """Whisper's segments follow each other, some without any length, and so do the words in them."""
    clock, segments, words = 0.0, [], []
    for i, (centiseconds, texts) in enumerate(drawn):
        share = centiseconds / 100 / len(texts)
        own = [Word(f" {t}{i}.", clock + n * share, clock + (n + 1) * share) for n, t in enumerate(texts)]
        segments.append(Segment(i, clock, own[-1].end, "".join(w.text for w in own)))
        words += own
        clock = own[-1].end
    placed = place(segments, words)
    assert [w for s in placed for w in s.words] == words
    assert ["".join(w.text for w in s.words) for s in placed] == [s.text for s in segments]
    assert [(s.start, s.end) for s in placed] == [(s.start, s.end) for s in segments]


@given(st.lists(st.tuples(st.integers(0, 2000), _WORDS), min_size=1), st.lists(st.floats(0, 9000), max_size=30))
def test_no_word_is_lost_or_moved_whatever_the_times_say(drawn, starts):
    segments = [Segment(i, c / 100, c / 100 + 1, "".join(texts)) for i, (c, texts) in enumerate(sorted(drawn))]
    words = [Word(" ask", start, start + 0.3) for start in starts]
    assert [w for s in place(segments, words) for w in s.words] == words


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["None", "1.5", "\ud800", "{"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["start", "end", "text", "word", "tokens", "seek", "error", "message", "segments"])
            | st.text(),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)
_ANSWERS = _JSON | st.fixed_dictionaries(
    {"segments": st.lists(_JSON, max_size=4)},
    optional={
        "word_timestamps": st.lists(_JSON, max_size=4),
        "translation": _JSON | st.text(alphabet="0123456789:,.-> \n", max_size=60),
        "detected_language": _JSON,
        "model": _JSON,
        "device": _JSON,
    },
)


@BOTH
@given(output=_ANSWERS, error=st.none() | _JSON)
def test_no_answer_whatsoever_breaks_the_reading_of_it(dialect, output, error):
    result = dialect.result("j", output, error)
    if result is None:
        return
    assert (result.payload is None) != (result.error is None)
    text = json.dumps(result_to_wire(result), ensure_ascii=False, allow_nan=False)
    assert result_from_wire(json.loads(text.encode())) == result
    if result.payload:
        assert all(0 <= s.start <= s.end for s in result.payload.segments)
        speech_of(result.payload)


def test_the_hub_is_asked_with_all_it_knows():
    asked = HUB.request(task(model="turbo", language="pt-BR", temperature=(0.2,), beam_size=7, word_timestamps=False))
    assert asked == {
        "audio": SIGNED + "#/audio.flac",
        "model": "turbo",
        "language": "pt",
        "temperature": 0.2,
        "beam_size": 7,
        "word_timestamps": False,
    }
    assert HUB.request(task("https://files.example/a/talk.mp3")) == {
        "audio": "https://files.example/a/talk.mp3",
        "model": "base",
        "temperature": 0.0,
        "beam_size": 5,
        "word_timestamps": True,
    }


def test_the_hubs_copy_of_a_signed_file_has_a_short_name_and_the_store_sees_the_signature_alone(tmp_path):
    """What the worker does with an address: names its copy after the end of it, and fetches it with requests."""
    seen = []

    class Store(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        signed = f"http://127.0.0.1:{server.server_port}/m/a.b.mp3?X-Amz-Expires=60&X-Amz-Signature={'f' * 300}"
        audio = HUB.request(task(signed))["audio"]
        requests.get(audio, timeout=30).raise_for_status()
        server.shutdown()
    assert audio.rpartition("/")[2] == "audio.mp3"
    assert seen == [f"/m/a.b.mp3?X-Amz-Expires=60&X-Amz-Signature={'f' * 300}"]
    assert "File name too long" in RECORDED[HUB.name]["raw-presigned"]["error"]


def test_faster_whisper_is_asked_with_all_it_knows():
    asked = FASTER.request(
        task(
            model="large",
            language="nb",
            translate=True,
            temperature=(0.2, 0.6, 1.0),
            beam_size=3,
            best_of=2,
            patience=2.0,
            length_penalty=0.5,
            initial_prompt="Kennedy",
            condition_on_previous_text=True,
            compression_ratio_threshold=None,
            logprob_threshold=-2.0,
            no_speech_threshold=None,
            vad=False,
            word_timestamps=False,
        )
    )
    assert asked.pop("temperature_increment_on_fallback") == pytest.approx(0.4)
    assert asked == {
        "audio": SIGNED,
        "model": "large-v3",
        "transcription": "plain_text",
        "translate": True,
        "translation": "srt",
        "language": "no",
        "temperature": 0.2,
        "best_of": 2,
        "beam_size": 3,
        "patience": 2.0,
        "length_penalty": 0.5,
        "initial_prompt": "Kennedy",
        "condition_on_previous_text": True,
        "compression_ratio_threshold": 1e9,
        "logprob_threshold": -2.0,
        "no_speech_threshold": 1.0,
        "enable_vad": False,
        "word_timestamps": False,
    }


def test_faster_whisper_is_given_no_null():
    asked = FASTER.request(task())
    assert None not in asked.values()
    assert not {"language", "initial_prompt", "suppress_tokens", "audio_base64"} & set(asked)
    assert asked["length_penalty"] == 1.0 and asked["enable_vad"] is True


def step_of(temperatures):
    return FASTER.request(task(temperature=temperatures))["temperature_increment_on_fallback"]


@given(st.integers(0, 10), st.sampled_from([0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 1.0]))
def test_temperatures_are_counted_as_the_worker_counts_them(first, step):
    import numpy as np

    counted = tuple(min(1.0, float(t)) for t in np.arange(first / 10, 1.0 + 1e-6, step))
    if len(counted) > 1:
        assert np.arange(counted[0], 1.0 + 1e-6, step_of(counted)) == pytest.approx(counted)
    if len(counted) > 2:
        assert "equal steps" in FASTER.refusal(task(temperature=counted[:-1]).params)
    one = np.arange(counted[0], 1.0 + 1e-6, step_of(counted[:1]))
    assert list(one) == [counted[0]]


@pytest.mark.parametrize("url", ["data:audio/wav;base64,UklGRg==", "data:,RIFF", "DATA:;BASE64,UklGRg%3D%3D"])
def test_bytes_in_the_manifest_are_handed_over_where_the_worker_takes_them(url):
    asked = FASTER.request(task(url))
    assert "audio" not in asked and base64.b64decode(asked["audio_base64"]) == b"RIFF"
    with pytest.raises(TaskRefused, match="bytes that lie in the manifest"):
        HUB.request(task(url))


@BOTH
def test_files_of_a_folder_are_refused_and_so_are_addresses_of_other_kinds(dialect):
    for url in ("file:///srv/drop/a.mp3", "ftp://host/a.mp3", ""):
        with pytest.raises(TaskRefused) as caught:
            dialect.request(task(url))
        assert caught.value.info.where == "audio" and not caught.value.retryable


@BOTH
def test_a_manifest_that_asks_for_nothing_in_particular_is_refused_nowhere(dialect):
    usual = TranscribeParams(audio="a")
    assert dialect.refusal(usual) == ""
    for own in ({"vad": False}, {"condition_on_previous_text": True}, {"temperature": (0.0,)}, {"language": "zh-HK"}):
        if own.get("language"):
            own["model"] = "turbo"
        assert dialect.refusal(TranscribeParams(audio="a", **own)) == ""


@pytest.mark.parametrize(
    ("params", "hub", "faster"),
    [
        ({"translate": True}, "translate", ""),
        ({"initial_prompt": "Kennedy"}, "take a prompt", ""),
        ({"beam_size": 11}, "more than 10 beams", ""),
        ({"temperature": (0.0, 0.4)}, "several temperatures", "equal steps"),
        ({"temperature": (0.0, 0.5, 1.0)}, "several temperatures", ""),
        ({"temperature": (0.5, 0.2)}, "several temperatures", "equal steps"),
        ({"best_of": 2}, "best_of", ""),
        ({"patience": 2.0}, "patience", ""),
        ({"length_penalty": 0.5}, "length_penalty", ""),
        ({"compression_ratio_threshold": None}, "compression_ratio_threshold", ""),
        ({"logprob_threshold": None}, "logprob_threshold", "logprob_threshold"),
        ({"no_speech_threshold": 0.9}, "no_speech_threshold", ""),
        ({"suppress_tokens": (1, 2)}, "suppress_tokens", "suppress_tokens"),
        ({"model": "tiny.en"}, "'tiny.en'", "'tiny.en'"),
        ({"model": "distil-large-v3"}, "distil", "distil"),
        ({"language": "xx"}, "'xx'", "'xx'"),
        ({"language": "yue"}, "'yue'", "'yue'"),
        ({"engine": "faster-whisper"}, "run faster-whisper", ""),
        ({"engine": "openai-whisper"}, "", "run openai-whisper"),
        ({"script": ("Hello.",)}, "follow a script", "follow a script"),
    ],
    ids=str,
)
def test_what_a_worker_cannot_do_is_refused_in_words(params, hub, faster):
    for dialect, words in ((HUB, hub), (FASTER, faster)):
        refusal = dialect.refusal(TranscribeParams(audio="audio.flac", **params))
        assert words in refusal and bool(words) == bool(refusal)
        if refusal:
            with pytest.raises(TaskRefused) as caught:
                dialect.request(task(**params))
            assert refusal in caught.value.info.message


OTHERWISE = {
    "model": "small",
    "engine": "whisper",
    "language": "pt",
    "languages": ("pt", "en"),
    "multilingual": True,
    "translate": True,
    "strategy": "exact",
    "temperature": (0.5,),
    "beam_size": 2,
    "best_of": 2,
    "patience": 2.0,
    "length_penalty": 0.5,
    "initial_prompt": "Kennedy",
    "hotwords": "Kennedy",
    "condition_on_previous_text": True,
    "compression_ratio_threshold": 2.0,
    "logprob_threshold": -0.5,
    "no_speech_threshold": 0.9,
    "suppress_tokens": (1, 2),
    "vad": False,
    "word_timestamps": False,
    "timestamps": "none",
    "chunk_length": 20.0,
    "batch_size": 2,
    "track": 2,
    "pcm": RawPcm(rate=8000),
}
"""Every option, asked for as nobody does who asks for nothing in particular."""
THEIR_OWN_CHOICE = {HUB.name: {"vad", "condition_on_previous_text", "strategy"}, FASTER.name: {"strategy"}}


@BOTH
def test_no_option_is_lost_on_the_way_to_a_worker_of_others(dialect):
    """They are told of it, or the task is refused; also of an option that is added one day."""
    assert OTHERWISE.keys() == RecognitionOptions.model_fields.keys() | SoundSource.model_fields.keys()
    usual = dialect.request(task())
    lost = set()
    for name, value in OTHERWISE.items():
        params = TranscribeParams(audio="audio.flac").model_copy(update={name: value})
        given = GpuTask("t", params, (TaskInput("audio.flac", SIGNED),))
        if not dialect.refusal(params) and dialect.request(given) == usual:
            lost.add(name)
    assert lost == THEIR_OWN_CHOICE[dialect.name]


def test_an_option_that_a_dialect_does_not_name_is_refused():
    params = TranscribeParams(audio="a").model_copy(update=OTHERWISE)
    refused = {
        reason.removeprefix("take another ") for reason in unsupported(params, engine="whisper", supported=frozenset())
    }
    assert refused == OTHERWISE.keys() - {"model", "engine", "language", "strategy"}


@BOTH
def test_they_only_transcribe(dialect):
    assert "only transcribe" in dialect.refusal(AddAudioParams(video="v", audio="a", output="o"))


def test_the_languages_are_whispers_own():
    assert set(_LANGUAGE_CODES) == CODES


@pytest.mark.parametrize("said", ["nowhere", "ba", "ab"])
def test_a_hostile_answer_takes_no_longer_than_it_is_long(said: str) -> None:
    """Neither words that the text does not have nor a text of hours in one segment."""
    words = [{"word": said, "start": 0.0, "end": 1.0}] * 60_000
    segments = [{"start": 0, "end": 10, "text": "ab " * 1_500_000}, {"start": 10, "end": 20, "text": "end"}]
    began = time.process_time()
    read = ForeignTranscript({"detected_language": "en", "segments": segments, "word_timestamps": words})
    assert [len(s.words) for s in read.transcript("x").segments] == [60_000, 0]
    assert time.process_time() - began < 5.0


def test_a_translation_of_digits_alone_takes_no_longer_than_it_is_long() -> None:
    began = time.process_time()
    assert FASTER.result("job", {"translation": "1:" * 40_000, "detected_language": "en", "segments": []}, None)
    assert time.process_time() - began < 5.0
