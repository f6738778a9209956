"""Recipes that train the micro model's parts; each writes an ordinary Hugging Face directory."""
