"""Data: manifests, collation, conversations, the Lightning data module."""
