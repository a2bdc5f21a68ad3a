"""From a laptop to real GPUs: a training as a file, the command that runs it, and plain scripts for many processes.

Importing this loads neither torch nor transformers.
"""

from .job import SCHEMA, Job, read_job, write_job
from .jobdata import job_rows

__all__ = ["SCHEMA", "Job", "job_rows", "read_job", "write_job"]
