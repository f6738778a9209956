"""Bridges from encoder features to the language model."""

from nextgpt.bridges.connectors import Connector, LinearConnector, MlpConnector
from nextgpt.bridges.grouped import GroupedConnector

__all__ = ["Connector", "GroupedConnector", "LinearConnector", "MlpConnector"]
