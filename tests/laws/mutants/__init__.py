"""Deliberately broken parts, one file a law: each law must catch its own, or it catches nothing."""
