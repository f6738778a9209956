"""The chat in the browser."""

from nextgpt.web.page import serve

__all__ = ["serve"]
