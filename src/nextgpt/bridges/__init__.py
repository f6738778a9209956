"""Bridges from encoder features to the language model."""

from nextgpt.bridges.anyres import AnyResTiles, RowsAssembler
from nextgpt.bridges.assembly import Assembler
from nextgpt.bridges.connectors import Connector, LinearConnector, MlpConnector
from nextgpt.bridges.fusion import Fusion, MediaContext
from nextgpt.bridges.grouped import GroupedConnector
from nextgpt.bridges.partition import Partition, SquarePad

__all__ = [
    "AnyResTiles",
    "Assembler",
    "Connector",
    "Fusion",
    "GroupedConnector",
    "LinearConnector",
    "MediaContext",
    "MlpConnector",
    "Partition",
    "RowsAssembler",
    "SquarePad",
]
