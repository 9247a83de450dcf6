"""What comes with the library because no page can measure it: costs, speed, the paper's own
numbers.
"""
