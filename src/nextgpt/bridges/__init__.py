"""Bridges from encoder features to the language model."""

from nextgpt.bridges.connectors import Connector, LinearConnector

__all__ = ["Connector", "LinearConnector"]
