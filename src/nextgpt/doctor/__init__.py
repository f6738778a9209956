"""Checks of a chain before its weights are fetched or loaded."""
