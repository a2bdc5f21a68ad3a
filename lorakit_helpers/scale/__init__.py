"""From a laptop to real GPUs: a training as a file, the command that runs it, and plain scripts for many processes.

Importing this loads neither torch nor transformers.
"""

from .job import SCHEMA, Job, read_job, write_job
from .jobdata import job_rows
from .plan import JobPlan, plan_job
from .script import RunComparison, compare_runs, write_script

__all__ = [
    "SCHEMA", "Job", "JobPlan", "RunComparison", "compare_runs", "job_rows", "plan_job", "read_job", "write_job",
    "write_script",
]  # fmt: skip
