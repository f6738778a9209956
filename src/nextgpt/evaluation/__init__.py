"""Evaluation: test requests, metrics and the runner."""
