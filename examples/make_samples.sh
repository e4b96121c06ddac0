#!/bin/sh
# Makes the sample media again. Needs espeak-ng, ffmpeg and the project's environment.
set -eu
cd "$(dirname "$0")/samples"
text="The river runs down from the mountain to the sea. Every morning the birds sing before the sun comes up."
espeak-ng -v en-us -s 130 -w media/speech.wav "$text"
ffmpeg -v error -y -i media/speech.wav -c:a libopus -b:a 32k speech.ogg && rm media/speech.wav
ffmpeg -v error -y -f lavfi -i "gradients=s=640x360:r=24:d=5:speed=0.02:seed=7:c0=#12355b:c1=#d72638:nb_colors=2" \
  -c:v libx264 -preset veryslow -crf 30 -pix_fmt yuv420p -movflags +faststart media/clip.mp4
ffmpeg -v error -y -f lavfi -i "aevalsrc='0.2*sin(2*PI*t*220)+0.15*sin(2*PI*t*277.2)+0.15*sin(2*PI*t*329.6)':d=6" \
  -c:a libopus -b:a 32k media/chord.ogg
python - <<'PY'
import numpy as np
from PIL import Image, ImageDraw

for name, low, high, sun in (("dawn", (18, 24, 64), (240, 140, 90), 640), ("dusk", (60, 12, 60), (250, 190, 80), 1280)):
    ramp = np.linspace(0, 1, 1080)[:, None, None]
    picture = np.array(low) * (1 - ramp) + np.array(high) * ramp
    image = Image.fromarray(np.broadcast_to(picture, (1080, 1920, 3)).astype("uint8"))
    draw = ImageDraw.Draw(image)
    draw.ellipse((sun - 160, 520, sun + 160, 840), fill=(255, 236, 200))
    draw.polygon([(0, 1080), (0, 820), (520, 560), (980, 900), (1400, 620), (1920, 880), (1920, 1080)], fill=(12, 16, 30))
    image.save(f"media/{name}.jpg", quality=82)
PY
