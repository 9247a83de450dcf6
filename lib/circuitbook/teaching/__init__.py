"""Exercises with their checks, and student and instructor versions of the chapters."""
