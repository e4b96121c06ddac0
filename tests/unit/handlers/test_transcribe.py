import json
from dataclasses import replace
from typing import get_args

import pytest
import srt

from gpu_dispatch.task import GpuResult, TranscribeParams, Videos
from gpu_dispatch.transcript import CutLoop, Quality, Word
from gpu_dispatch.wire import task_from_wire
from handlers.base import ANY, Link
from handlers.transcribe import TranscribeHandler
from manifests.errors import NoSpeech, OutputOverwritesInput, WorkerError
from manifests.models import SubtitleFormat, Transcribe
from manifests.options import RawPcm, RecognitionOptions
from support.transcripts import spoken, transcript

ALL = get_args(SubtitleFormat)
HANDLER = TranscribeHandler()


def finish(planning, answer, name="talk", **fields):
    planned = planning(HANDLER, Transcribe(audio="audio final.MP3", **fields), name=name)
    return HANDLER.finish(planned, HANDLER.plan(planned), (GpuResult("t", answer),))


def test_every_option_reaches_the_worker(planning):
    asked = {
        "model": "small",
        "engine": None,  # no engine has every option
        "language": "pt",
        "languages": ("pt", "en"),
        "multilingual": True,
        "translate": True,
        "strategy": "exact",
        "temperature": (0.5,),
        "beam_size": 2,
        "best_of": 3,
        "patience": 2.0,
        "length_penalty": 0.5,
        "initial_prompt": "x",
        "hotwords": "y",
        "condition_on_previous_text": True,
        "compression_ratio_threshold": 1.0,
        "logprob_threshold": -2.0,
        "no_speech_threshold": 0.1,
        "suppress_tokens": (1, 2),
        "vad": False,
        "word_timestamps": False,
        "timestamps": "segment",
        "chunk_length": 20.0,
        "batch_size": 2,
    }
    assert asked.keys() == RecognitionOptions.model_fields.keys()
    (task,) = HANDLER.plan(planning(HANDLER, Transcribe(audio="a.MP3", **asked))).tasks
    assert task.params == TranscribeParams(audio="audio.mp3", **asked)
    (named,) = HANDLER.plan(planning(HANDLER, Transcribe(audio="a.MP3", engine="transformers"))).tasks
    assert named.params.engine == "transformers"
    assert [(f.name, str(f.media)) for f in task.inputs] == [("audio.mp3", "s3://media/in/a.MP3")]
    assert task.outputs == ()
    wire = {"task_id": "t", "params": {"operation": "transcribe", "audio": "audio.mp3"}, "inputs": []}
    assert task_from_wire(wire).params == TranscribeParams(audio="audio.mp3")


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("https://example.com/a%20b.MP3?x=.exe", "audio.mp3"),
        ("a.b/c", "audio"),
        ("x.tar;rm", "audio"),
        ("data:,x", "audio"),
    ],
)
def test_names_of_inputs_are_ours(planning, reference, name):
    (task,) = HANDLER.plan(planning(HANDLER, Transcribe(audio=reference))).tasks
    assert task.inputs[0].name == name


def test_the_earlier_response(planning):
    answer = transcript(spoken("And so my fellow"), spoken("Americans", 3.0), duration=11.0)
    finished = finish(planning, answer)
    assert finished.message == "Transcription completed successfully"
    assert [o.key for o in finished.outputs] == ["out/segments.srt", "out/karaoke.ass", "out/words.json"]
    assert finished.response == {
        "job_id": "t",
        "language": "en",
        "source_language": "en",
        "language_probability": 0.9,
        "transcription": "And so my fellow Americans",
        "files": {
            "segments": {"srt": Link("out/segments.srt"), "vtt": "", "ttml": "", "json": Link("out/words.json")},
            "words": {
                "ass_karaoke": Link("out/karaoke.ass"),
                "vtt_karaoke": "",
                "lrc": "",
                "json": Link("out/words.json"),
            },
            "transcript": {"txt": ""},
        },
    }
    assert finished.stats == {
        "segments": 2,
        "words": 5,
        "model": "base",
        "device": "cpu",
        "engine": "faster-whisper",
        "duration": 11.0,
        "speech": True,
    }


def test_what_is_to_be_checked_stands_in_the_stats(planning):
    quality = Quality(0.5, 30.0, -0.4, 1, 21, (Word(" five", 1.0, 1.2, 0.1234),), 1, (CutLoop("so", 2.0, 9),))
    told = finish(planning, replace(transcript(spoken("Olá")), quality=quality)).stats["quality"]
    assert told == {
        "speech_ratio": 0.5,
        "silent_s": 30.0,
        "mean_logprob": -0.4,
        "decoded_again": 1,
        "doubtful_words": 21,
        "doubtful": ({"word": "five", "start": 1.0, "end": 1.2, "probability": 0.12},),
        "loops_cut": 1,
        "loops": ({"text": "so", "start": 2.0, "times": 9},),
    }


def test_silence_is_told(planning):
    assert finish(planning, transcript()).stats["speech"] is False


def test_all_formats_hold_the_words(planning):
    finished = finish(planning, transcript(spoken("Olá você")), formats=ALL)
    files = {o.key.removeprefix("out/"): o for o in finished.outputs}
    assert list(files) == [
        "segments.srt",
        "karaoke.ass",
        "words.json",
        "segments.vtt",
        "karaoke.vtt",
        "karaoke.lrc",
        "segments.ttml",
        "transcript.txt",
    ]
    assert all(o.content_type.endswith("; charset=utf-8") for o in files.values())
    assert all("você" in o.data.decode() for o in files.values())


def test_naming_by_media_and_language(planning):
    finished = finish(planning, transcript(spoken("Oi"), language="pt"), naming="media", formats=("srt", "json"))
    assert [o.key for o in finished.outputs] == ["out/audio final.pt.srt", "out/audio final.pt.json"]
    odd = finish(planning, transcript(spoken("Oi"), language="../x"), naming="media", formats=("srt",))
    assert odd.outputs[0].key == "out/audio final.und.srt"
    english = finish(
        planning, transcript(spoken("Hi"), language="pt"), naming="media", formats=("srt",), translate=True
    )
    assert english.outputs[0].key == "out/audio final.en.srt"


@pytest.mark.parametrize(
    ("asked", "heard", "name"),
    [
        ({"language": "pt-BR"}, "pt", "pt-BR"),
        ({"language": "EN"}, "en", "EN"),
        ({"language": "pt", "translate": True}, "pt", "en"),
        ({}, "english", "und"),
    ],
)
def test_files_have_the_names_that_were_claimed_for_them(planning, asked, heard, name):
    planned = planning(HANDLER, Transcribe(audio="talk.mp3", naming="media", formats=ALL, **asked))
    plan = HANDLER.plan(planned)
    finished = HANDLER.finish(planned, plan, (GpuResult("t", transcript(spoken("Oi"), language=heard)),))
    assert tuple(o.key for o in finished.outputs) == tuple(key.replace(ANY, name) for key in plan.writes)
    assert f"out/talk.{name}.karaoke.vtt" in plan.writes or ANY in plan.writes[0]


def test_silence_gives_files_that_are_not_empty_and_says_so(planning):
    finished = finish(planning, transcript(), formats=ALL)
    assert finished.message.startswith("Transcription completed successfully: no speech")
    assert len(finished.outputs) == len(ALL) and all(o.data for o in finished.outputs)
    files = {o.key: o.data.decode() for o in finished.outputs}
    assert list(srt.parse(files["out/segments.srt"])) == []
    assert json.loads(files["out/words.json"])["words"] == []
    with pytest.raises(NoSpeech):
        finish(planning, transcript(), require_speech=True)


def test_an_answer_of_another_kind_is_told(planning):
    with pytest.raises(WorkerError):
        finish(planning, Videos((), "copy"))


def test_an_input_is_not_overwritten(planning):
    with pytest.raises(OutputOverwritesInput):
        HANDLER.plan(planning(HANDLER, Transcribe(audio="words.json"), folder="in/"))


def test_a_segmenter_takes_the_place_of_the_cue_maker(planning):
    handler = TranscribeHandler(segmenter=lambda speech, limits: ())
    planned = planning(handler, Transcribe(audio="a.mp3"))
    answer = GpuResult("t", transcript(spoken("hello")))
    assert handler.finish(planned, handler.plan(planned), (answer,)).outputs[0].data == b"\n"


def test_a_preset_cuts_the_cues_of_every_format(planning):
    said = spoken("We took the road along the river because the old bridge was closed again")
    few = finish(planning, transcript(said), formats=("srt", "lrc"), subtitles="social").outputs
    whole = finish(planning, transcript(said), formats=("srt", "lrc")).outputs
    assert max(len(cue.content.split()) for cue in srt.parse(few[0].data.decode())) <= 5
    for short, long in zip(few, whole, strict=True):
        assert len(short.data.decode().splitlines()) > len(long.data.decode().splitlines())


def test_what_the_worker_warns_of_is_told(planning):
    warning = "The recording is cut off: its sound ends at 7.0 s of 12.0 s."
    finished = finish(planning, replace(transcript(spoken("And so")), warnings=(warning,)))
    assert finished.message == "Transcription completed successfully"
    assert finished.response["warnings"] == (warning,)
    assert "warnings" not in finish(planning, transcript(spoken("And so"))).response


def test_no_speech_says_why(planning):
    reason = "Nothing can be heard: audio track 1 of 2 is silent from start to end; `track` chooses another."
    silent = replace(transcript(), warnings=(reason,))
    assert reason.rstrip(".") in finish(planning, silent).message
    with pytest.raises(NoSpeech, match="audio track 1 of 2 is silent"):
        finish(planning, silent, require_speech=True)


def test_track_and_pcm_reach_the_worker(planning):
    asked = Transcribe.model_validate({"audio": "a.pcm", "track": "2", "pcm": {"rate": 16000}})
    (task,) = HANDLER.plan(planning(HANDLER, asked)).tasks
    assert (task.params.track, task.params.pcm) == (2, RawPcm(rate=16000, channels=1, format="s16le"))
