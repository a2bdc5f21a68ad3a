"""From a laptop to real GPUs: a training as a file, the command that runs it, and plain scripts for many processes.

Importing this loads neither torch nor transformers.
"""

from .claim import check_c16
from .configs import deepspeed_config, fsdp_config, write_config
from .cost import throughput_of, time_estimate
from .engines import export_axolotl, export_llamafactory, write_export
from .job import SCHEMA, Job, read_job, write_job
from .jobdata import job_rows
from .matrix import model_matrix
from .operations import token_operations
from .plan import JobPlan, plan_job
from .script import RunComparison, compare_runs, write_script
from .sharding import shard_memory

__all__ = [
    "SCHEMA", "Job", "JobPlan", "RunComparison", "check_c16", "compare_runs", "deepspeed_config", "export_axolotl",
    "export_llamafactory", "fsdp_config", "job_rows", "model_matrix", "plan_job", "read_job", "shard_memory",
    "throughput_of", "time_estimate", "token_operations", "write_config", "write_export", "write_job", "write_script",
]  # fmt: skip
