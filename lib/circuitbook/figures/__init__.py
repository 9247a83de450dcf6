"""Pictures and interactive views: a module for each kind of figure."""

from circuitbook.figures.showing import nothing, share, show
from circuitbook.figures.style import use_style

__all__ = ["nothing", "share", "show", "use_style"]
