"""Checkpoints of the original NExT-GPT as checkpoint directories of ours."""

from nextgpt.conversion.original import convert_checkpoint

__all__ = ["convert_checkpoint"]
