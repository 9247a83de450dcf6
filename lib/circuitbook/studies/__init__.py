"""Measurements at every checkpoint, kept in the store, and what follows from them: a module for
each section.
"""
