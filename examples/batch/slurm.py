"""Servers as jobs of Slurm: under the accounts of their owners, wherever the scheduler has room.

    pip install ".[slurm,singleuser]"               # at the same path on the Hub's machine and on the nodes
    jupyterhub -f examples/batch/slurm.py           # as root, on a machine where `sbatch` works
"""

import sys
from pathlib import Path

c = get_config()

# The commands of this environment, which the nodes have at the same path.
COMMANDS = Path(sys.executable).parent

c.JupyterHub.spawner_class = "slurm"
c.Spawner.cmd = [f"{COMMANDS}/jupyterhub-singleuser"]
c.SlurmSpawner.batchspawner_singleuser_cmd = f"{COMMANDS}/batchspawner-singleuser"

# What is asked for where nothing else is chosen: minutes or HOURS:MINUTES:SECONDS, memory with its unit, processors.
c.SlurmSpawner.req_runtime = "8:00:00"
c.SlurmSpawner.req_memory = "1G"
c.SlurmSpawner.req_nprocs = "1"

c.Spawner.profiles = [
    {"display_name": "Small", "description": "1 GB of memory, 1 processor", "default": True},
    {
        "display_name": "Large",
        "description": "3 GB of memory, 2 processors",
        "overrides": {"req_memory": "3G", "req_nprocs": "2"},
    },
]

# A job may wait for a place for as long as this, in seconds. Whoever waits reads its state and the scheduler's reason,
# in parentheses here: `%T` is the state, `%r` the reason, and the last word, `%N`, has to be the node.
c.Spawner.start_timeout = 3600
c.SlurmSpawner.batch_query_cmd = "squeue -h -j {job_id} -o '%T (%r) %N'"

# A job is gone only when the scheduler says so. Any other error means that the scheduler could not be asked, and then
# the server stays.
c.SlurmSpawner.state_unknown_re = r"^(?!slurm_load_jobs error: Invalid job id)(?s:.)*error"

# The Hub's own PATH, and the file that says where the cluster is, if it is not /etc/slurm/slurm.conf.
c.Spawner.env_keep = ["PATH", "LANG", "SLURM_CONF"]

# Names and passwords are those of the accounts of this machine.
c.Authenticator.allow_all = True
