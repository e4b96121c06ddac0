"""Video operations on ffmpeg.

Composition, once per process:

    ffmpeg = FFmpeg(find_ffmpeg(preferred))           # video.ffmpeg; preferred: GPUDROP_FFMPEG or None
    encoder = Encoder(ffmpeg)                         # video.encoder; probes NVENC once, on first use
    caption = BurnOrMux(ffmpeg, encoder)              # video.caption: CaptionParams -> Videos
    img2vid = KenBurns(ffmpeg, encoder)               # video.kenburns: Img2VidParams -> Videos
    addaudio = ReplaceAudio(ffmpeg, encoder)          # video.mux: AddAudioParams -> Videos

Each is an `Operation`: `await caption(params, job)`. Cancelling it kills its ffmpeg and waits for the end.

Decoding sound elsewhere in the worker:

    media = await probe(ffmpeg, path)                 # video.probe; MediaUnreadable
    media.require_audio()                             # NoAudio
    pcm = await ffmpeg.read_stdout(
        [*untrusted_input(path), "-map", "0:a:0", "-vn", "-f", "s16le", "-ac", "1", "-ar", "16000"],
        name=path.name, limit=2**31,
    )                                                 # bytes; "pipe:1" is appended; MediaUnreadable, InputTooLarge

`python -m gpu_dispatch.worker.video.report [FFMPEG]` prints what this machine can do, one line of JSON.
"""
