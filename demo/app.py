"""The chat page as a program of its own, to be changed or to be put on a server."""

from nextgpt import NextGPT
from nextgpt.checkpoint import card, shipped_model
from nextgpt.engine import Engine
from nextgpt.web import serve

if __name__ == "__main__":
    serve(Engine(NextGPT.from_pretrained), card(shipped_model()))
