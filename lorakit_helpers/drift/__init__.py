"""Whether the installed libraries still have every name and keyword the course uses: ``python -m lorakit_helpers.drift``.

Importing this loads no library of those it checks.
"""

from .calls import Call, Use, course_sources, read_source
from .check import Finding, Report, check

__all__ = ["Call", "Finding", "Report", "Use", "check", "course_sources", "read_source"]
