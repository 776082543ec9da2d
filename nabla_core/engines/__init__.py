"""Engines serve the requests of flows; `loading.load_engines` builds a set from model names."""
