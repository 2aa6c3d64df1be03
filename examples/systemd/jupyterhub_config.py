"""A Hub on one machine; each server is a systemd unit of its own, made by the package systemdspawner.

docs/how-to/systemd.md leads there from nothing.
"""

c = get_config()

c.JupyterHub.spawner_class = "systemd"

# systemd sees to it that nobody takes more; a task is a process or a thread.
c.SystemdSpawner.mem_limit = "2G"
c.SystemdSpawner.cpu_limit = 1
c.SystemdSpawner.unit_extra_properties = {
    "TasksMax": "500",
    # What does not end when it is told to is killed after so many seconds.
    "TimeoutStopSec": "10",
}

# Servers do not belong to the Hub's own unit: they and the proxy go on when that is stopped or restarted.
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False

# Names and passwords are those of the accounts of this machine.
c.Authenticator.allow_all = True
