"""What released spawners do and ask of their engines, as JSON: `packages_answers.py docker|kubernetes|batch`.

Run with any JupyterHub in whose environment the packages are; two that are alike give the same answers. The engines are
stand-ins that note what they are asked.
"""

import asyncio
import json
import logging
import os
import pwd
import sys
from types import SimpleNamespace
from unittest import mock
from urllib.parse import quote

from traitlets.config import Config

from jupyterhub.objects import Hub, Server

ME = pwd.getpwuid(os.getuid()).pw_name


def make(cls, settings, name, server_address=True, **more):
    """A spawner as its package's own suite makes one."""
    user = SimpleNamespace(
        name=name, id=7, admin=False, url=f"/user/{quote(name)}/", base_url=f"/user/{quote(name)}/",
        escaped_name=quote(name, safe="@~"), state=None, settings={}, server=None, spawners={}, orm_user=None,
        groups=[SimpleNamespace(name="physics")],
    )  # fmt: skip
    config = Config()
    config[cls.__name__].update(settings)
    spawner = cls(
        user=user, hub=Hub(ip="10.0.0.1", port=8081, base_url="/hub/"), config=config, api_token="token",
        oauth_client_id="client", _deprecated_db_session=mock.MagicMock(), **more,
    )  # fmt: skip
    if server_address:
        spawner.server = Server(ip="", port=8888, base_url=user.base_url)
    return spawner


class Answers(dict):
    """Named answers; an exception is one too."""

    async def note(self, name, call, as_json=lambda value: value):
        try:
            value = call()
            if hasattr(value, "__await__"):
                value = await asyncio.wait_for(value, 20)
            value = as_json(value)
        except Exception as error:
            value = f"{type(error).__name__}: {error}"
        self[name] = json.loads(json.dumps(value, default=repr, sort_keys=True))
        return value


# Docker

DOCKER = [
    {},
    {"image": "a/b:1"},
    {"allowed_images": {"x": "x:1", "y": "y:2"}},
    {
        "remove": True, "mem_limit": "1G", "cpu_limit": 2, "name_template": "{prefix}-{username}-{servername}",
        "volumes": {"v-{username}": "/home/w"}, "read_only_volumes": {"/d": {"bind": "/d", "mode": "z"}},
        "extra_create_kwargs": {"user": "0"}, "extra_host_config": {"shm_size": "1g"},
    },
    {
        "use_internal_ip": True, "network_name": "net", "notebook_dir": "/x/{username}", "default_url": "/lab",
        "environment": {"A": "B"}, "cmd": ["s"], "args": ["--a"],
    },
    {"pull_policy": "never", "mounts": [{"type": "bind", "source": "/{username}", "target": "/t"}], "port": 9999},
    {"escape": "legacy", "post_start_cmd": "echo {username}"},
]  # fmt: skip


class Engine:
    """Answers what dockerspawner asks of Docker's API, and notes it."""

    def __init__(self):
        self.asked, self.there, self.running = [], False, False

    async def __call__(self, method, *args, **kwargs):
        from docker.errors import APIError

        self.asked.append([method, args, kwargs])
        if method in ("create_container", "create_service"):
            self.there = self.running = True
        elif method == "stop":
            self.running = False
        elif method in ("remove_container", "remove_service"):
            self.there = False
        elif method.startswith("inspect") and method != "inspect_image" and not self.there:
            raise APIError("not found", response=mock.MagicMock(status_code=404, reason="not found"))
        state = {"Running": self.running, "ExitCode": 0, "Error": "", "FinishedAt": ""}
        made = {"Id": "c1", "ID": "c1", "Name": "/c", "State": state, "Spec": {"Name": "c"}}
        return {
            "inspect_container": {**made, "NetworkSettings": {"Networks": {"net": {"IPAddress": "172.1.1.1"}}}},
            "inspect_image": {"Id": "i", "Config": {"Cmd": ["x"], "Entrypoint": None}},
            "tasks": [{"Status": {"State": "running"}, "DesiredState": "running"}] if self.there else [],
            "port": [{"HostIp": "127.0.0.1", "HostPort": "32768"}],
        }.get(method, made)


async def docker():
    import dockerspawner
    from docker import APIClient

    for cls in (dockerspawner.DockerSpawner, dockerspawner.SystemUserSpawner, dockerspawner.SwarmSpawner):
        for settings in DOCKER:
            for name, options in ((ME, {}), (ME, {"image": "x"}), ("Ada.L@example.org", {})):
                spawner, engine, said = make(cls, settings, name), Engine(), Answers()
                cls._client = APIClient(version="1.41", base_url="tcp://127.0.0.1:1")
                spawner.docker, spawner.user_options = engine, options
                await said.note("form", spawner.get_options_form)
                await said.note("options", lambda spawner=spawner: spawner.options_from_form({"image": ["y"]}))
                await life(spawner, said)
                said["asked"] = engine.asked
                yield [cls.__name__, settings, name, options, said]


async def life(spawner, said):
    """Start, look, stop, with the state in between."""
    for name, call in (
        ("polled before", spawner.poll), ("started", spawner.start), ("polled", spawner.poll),
        ("state", spawner.get_state), ("stopped", spawner.stop), ("polled after", spawner.poll),
        ("state after", spawner.get_state),
    ):  # fmt: skip
        await said.note(name, call)


# Batch systems: what they say to a submission, while a job waits, and while it runs

BATCH = {
    "TorqueSpawner": ("1", "<job_state>Q</job_state>", "<job_state>R</job_state><exec_host>node/1</exec_host>"),
    "MoabSpawner": ("1", 'State="Idle"', 'State="Running" AllocNodeList="node"'),
    "PBSSpawner": ("1", "job_state = Q", "job_state = R\nexec_host = node/2*1"),
    "SlurmSpawner": ("1", "PENDING ", "RUNNING node"),
    "GridengineSpawner": (
        "x x 1",
        '<job_info><job_list state="pending"><JB_job_number>1</JB_job_number></job_list></job_info>',
        '<job_info><job_list state="running"><JB_job_number>1</JB_job_number>'
        "<queue_name>q@node</queue_name></job_list></job_info>",
    ),
    "CondorSpawner": ("submitted to cluster 1", "1,", "2, @node"),
    "LsfSpawner": ("Job <1> is submitted to default queue <normal>", "PEND ", "RUN node"),
}
REQUESTS = {
    "req_nprocs": "4", "req_memory": "1000", "req_runtime": "1:00:00", "req_queue": "q", "req_partition": "p",
    "req_options": "for {username}", "req_prologue": "before", "req_epilogue": "after", "req_host": "admin",
    "req_keepvars_extra": "XYZ",
}  # fmt: skip


QUICK = {"startup_poll_interval": 0.01}


class Queue:
    """Runs the commands of one batch system, and notes them. A job waits when first asked about; 'cancel' ends it."""

    def __init__(self, spawner, submitted, waiting, running):
        self.spawner, self.submitted, self.asked = spawner, submitted, []
        self.answers = [waiting, running]
        self.cancel = spawner.batch_cancel_cmd.split()[0]

    async def __call__(self, command, input=None, env=None):
        self.asked.append([command, input, sorted(env or {})])
        if input is not None:
            # The job has told its port by the time it runs.
            self.spawner.mock_port = 4321
            return self.submitted
        if f"{self.cancel} " in command:
            self.answers = [""]
            return ""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


async def batch():
    import batchspawner

    for kind, answers in BATCH.items():
        for settings in ({}, REQUESTS):
            spawner, said = make(getattr(batchspawner, kind), {**QUICK, **settings}, ME, cmd=["server"]), Answers()
            spawner.run_command = queue = Queue(spawner, *answers)
            await life(spawner, said)
            yield [kind, settings, said, queue.asked, [spawner.ip, spawner.port, spawner.job_id]]


# Kubernetes

PROFILES = [
    {
        "display_name": "P", "slug": "p", "default": True, "kubespawner_override": {"image": "p:1", "mem_limit": "3G"},
        "profile_options": {
            "size": {
                "display_name": "Size",
                "choices": {
                    "small": {"display_name": "S", "default": True, "kubespawner_override": {"cpu_limit": 2}},
                    "large": {"display_name": "L", "kubespawner_override": {"cpu_limit": 4}},
                },
            }
        },
    }
]  # fmt: skip
KUBERNETES = [
    {},
    {"mem_limit": "2G", "mem_guarantee": "1G", "cpu_limit": 1.5, "cpu_guarantee": 0.5},
    {
        "storage_pvc_ensure": True, "storage_capacity": "5Gi", "storage_class": "x",
        "pvc_name_template": "claim-{username}--{servername}",
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "claim-{username}"}}],
        "volume_mounts": [{"mountPath": "/home/{username}", "name": "v"}],
    },
    {
        "environment": {"A": "b", "D": "{username}"}, "cmd": ["start.sh"], "args": ["--x={username}"],
        "default_url": "/lab", "notebook_dir": "/srv/{username}", "debug": True, "disable_user_config": True,
    },
    {"uid": 1000, "gid": 100, "fs_gid": 100, "supplemental_gids": [1, 2], "privileged": True, "service_account": "sa"},
    {
        "extra_labels": {"u": "{username}"}, "node_selector": {"k": "v"}, "image": "me/x:{username}",
        "tolerations": [{"key": "k", "operator": "Exists"}], "image_pull_secrets": ["s"],
    },
    {
        "init_containers": [{"name": "i", "image": "b"}], "extra_containers": [{"name": "e", "image": "b"}],
        "lifecycle_hooks": {"postStart": {"exec": {"command": ["x"]}}}, "extra_resource_limits": {"nvidia.com/gpu": "1"},
    },
    {"slug_scheme": "escape", "namespace": "ns", "port": 9999},
    {"services_enabled": True, "enable_user_namespaces": True},
    {"profile_list": PROFILES},
    {"group_overrides": {"g": {"groups": ["physics"], "spawner_override": {"cpu_limit": 3}}}},
]  # fmt: skip


async def kubernetes():
    from kubernetes_asyncio.client import ApiClient
    from kubespawner import KubeSpawner

    plain = ApiClient().sanitize_for_serialization
    form = {"profile": ["p"], "profile-option-p--size": ["large"]}
    for settings in KUBERNETES:
        for name in ("ada", "Ada.Lovelace@example.org", "ünï-" + "x" * 70):
            spawner, said = make(KubeSpawner, settings, name, _mock=True), Answers()
            await said.note("overrides", spawner.apply_group_overrides)
            await said.note("form", spawner.get_options_form)
            options = await said.note("options", lambda spawner=spawner: spawner.options_from_form(form))
            spawner.user_options = options if "profile_list" in settings else {}
            await said.note("choice", spawner.load_user_options)
            await said.note("pod", spawner.get_pod_manifest, plain)
            await said.note("claim", spawner.get_pvc_manifest, plain)
            for what in ("get_env", "get_args", "get_state", "template_namespace"):
                await said.note(what, getattr(spawner, what))
            spawner.load_state({"pod_name": "p1", "namespace": "n1"})
            await said.note("state after loading", spawner.get_state)
            yield [settings, name, said]


async def main(which):
    print(json.dumps([each async for each in which()], default=repr, sort_keys=True))


logging.disable(logging.CRITICAL)
asyncio.run(main({"docker": docker, "batch": batch, "kubernetes": kubernetes}[sys.argv[1]]))
