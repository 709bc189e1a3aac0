"""Axis 1: which earlier positions does a position hear from?"""
