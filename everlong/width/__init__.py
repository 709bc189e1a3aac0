"""Axis 2: which weights does a position use?"""
