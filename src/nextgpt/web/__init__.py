"""The chat in the browser."""

from nextgpt.web.page import build_page, serve

__all__ = ["build_page", "serve"]
