"""``nextgpt bridges``: what systems their bridges are made of, and what becomes of a picture."""
