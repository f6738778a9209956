"""Make the picture that the README opens with: what the micro model answers, from fixed seeds."""

import argparse
from pathlib import Path

from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from nextgpt import Audio, Conversation, Image, NextGPT, Video
from nextgpt.media.stills import still
from nextgpt.messages import Message

PICTURES = (
    "Draw a cat on a yellow background.",
    "Draw two apples on a white background.",
    "Draw a rocket on a black background.",
    "Draw a trumpet on a green background.",
    "Draw an owl on a purple background.",
    "Draw a small car on a pink background.",
    "Draw a balloon next to a tree.",
    "Draw a guitar on an orange background.",
)
SOUNDS = (
    "Play me a trumpet playing four rising notes.",
    "Let me hear a flute playing two low notes.",
)
CLIPS = ("Show me a rocket flying up.", "Make a clip of a duck moving left.")
TALK = (
    "Show me a rooster, let me hear a trumpet, and make a short clip of a rocket flying up.",
    "Now draw the rooster on a red background.",
)
SEED = 1

WIDTH, MARGIN, GAP = 1160, 20, 12
TALK_WIDTH = 540
TILE_PX, STRIP_PX, SOUND_PX = 134, 68, 96
INK, QUIET, PAPER = "#202124", "#5f6368", "#ffffff"
BUBBLES = {"user": "#d7e8fd", "assistant": "#f1f3f4"}


def main() -> None:
    """Ask, draw and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, metavar="DIR", help="default: the micro model")
    parser.add_argument("--out", type=Path, default=Path("docs/gallery.png"), metavar="FILE")
    options = parser.parse_args()
    model = NextGPT.from_pretrained(options.model)
    sheet = Picture.new("RGB", (WIDTH, 2000), PAPER)
    left = draw_talk(sheet, talk(model), MARGIN, MARGIN)
    right = draw_answers(sheet, model, MARGIN + TALK_WIDTH + 2 * GAP, MARGIN)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.crop((0, 0, WIDTH, max(left, right) + MARGIN)).save(options.out, optimize=True)
    print(options.out)


def talk(model: NextGPT) -> Conversation:
    """Hold the dialogue."""
    conversation = Conversation()
    for question in TALK:
        conversation.user(question)
        conversation.messages.append(model.chat(conversation, seed=SEED))
    return conversation


def draw_talk(sheet: Picture.Image, conversation: Conversation, left: int, top: int) -> int:
    """Draw the dialogue as bubbles; returns where it ends."""
    for message in conversation.messages:
        indent = 60 if message.role == "user" else 0
        top = draw_bubble(sheet, message, left + indent, top, TALK_WIDTH - 60) + GAP
    return top


def draw_bubble(sheet: Picture.Image, message: Message, left: int, top: int, width: int) -> int:
    """Draw a message, its parts below each other; returns where it ends."""
    bubble = Picture.new("RGB", (width, 1000), BUBBLES[message.role])
    bottom = GAP
    for part in message.parts:
        if not isinstance(part, str):
            height = {Image: 128, Audio: 64, Video: 56}[type(part)]
            bubble.paste(still(part, height), (GAP, bottom))
            bottom += height + GAP // 2
        elif part.strip():
            bottom = write(bubble, part.strip(), GAP, bottom, width - 2 * GAP, 17, INK) + GAP // 2
    sheet.paste(bubble.crop((0, 0, width, bottom + GAP // 2)), (left, top))
    return top + bottom + GAP // 2


def draw_answers(sheet: Picture.Image, model: NextGPT, left: int, top: int) -> int:
    """Draw single answers with what was asked above each; returns where they end."""
    for number, question in enumerate(PICTURES):
        row, column = divmod(number, 4)
        place = left + column * (TILE_PX + GAP), top + row * (TILE_PX + 46)
        [picture] = model.chat(question, modalities=["image"], seed=SEED).images
        sheet.paste(still(picture, TILE_PX), place)
        write(sheet, question, place[0], place[1] + TILE_PX + 4, TILE_PX, 12, QUIET)
    top += 2 * (TILE_PX + 46)
    for question in CLIPS:
        [clip] = model.chat(question, modalities=["video"], seed=SEED).videos
        sheet.paste(still(clip, STRIP_PX), (left, top))
        top = write(sheet, question, left, top + STRIP_PX + 4, 8 * STRIP_PX, 12, QUIET) + GAP
    for number, question in enumerate(SOUNDS):
        [sound] = model.chat(question, modalities=["audio"], seed=SEED).audios
        column = left + number * (2 * SOUND_PX + 8 * GAP)
        sheet.paste(still(sound, SOUND_PX), (column, top))
        write(sheet, question, column, top + SOUND_PX + 4, 2 * SOUND_PX + 7 * GAP, 12, QUIET)
    return top + SOUND_PX + 24


def write(
    sheet: Picture.Image, text: str, left: int, top: int, width: int, size: int, colour: str
) -> int:
    """Write text in lines of a width; returns where it ends."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    line = ""
    for word in [*text.split(), None]:
        longer = f"{line} {word}".strip()
        if word is not None and draw.textlength(longer, font) <= width:
            line = longer
            continue
        draw.text((left, top), line, colour, font)
        top += round(size * 1.3)
        line = word or ""
    return top


if __name__ == "__main__":
    main()
