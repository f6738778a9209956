"""Bridges from encoder features to the language model."""

from nextgpt.bridges.anyres import AnyResTiles, RowsAssembler
from nextgpt.bridges.assembly import Assembler
from nextgpt.bridges.connectors import Connector, LinearConnector, MlpConnector
from nextgpt.bridges.fusion import Fusion, MediaContext
from nextgpt.bridges.gated import Beside, GatedCrossAttention
from nextgpt.bridges.grouped import GroupedConnector
from nextgpt.bridges.partition import Partition, SquarePad
from nextgpt.bridges.perceiver import PerceiverResampler
from nextgpt.bridges.qformer import QFormerConnector

__all__ = [
    "AnyResTiles",
    "Assembler",
    "Beside",
    "Connector",
    "Fusion",
    "GatedCrossAttention",
    "GroupedConnector",
    "LinearConnector",
    "MediaContext",
    "MlpConnector",
    "Partition",
    "PerceiverResampler",
    "QFormerConnector",
    "RowsAssembler",
    "SquarePad",
]
