"""Kill the Hub at random instants while servers start and stop, and prove at the end that nothing was lost.

    python -m tests.system.kill_harness --kills 100 --seed 1

Each round starts and stops servers of several people at random, sends SIGKILL to the Hub at a random instant and
starts it again. At the end: every server is ready or stopped, stopped ones that were wanted say why, nothing is
pending, every living process belongs to one ready server, every route matches, no token is left over, and everybody
can start and stop once more.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from .hub_process import HubProcess, wait_for

HERE = Path(__file__).resolve().parent

LOCAL = f"""
c.JupyterHub.spawner_class = "simple"
c.Spawner.cmd = [{sys.executable!r}, {str(HERE / "tiny_server.py")!r}]
c.LocalProcessSpawner.interrupt_timeout = 1
"""

FOUND_BY_NAME = f"""
import sys
sys.path.insert(0, {str(HERE.parent.parent)!r})
from tests.system.found_by_name import FoundByNameSpawner
c.JupyterHub.spawner_class = FoundByNameSpawner
c.FoundByNameSpawner.command = {str(HERE / "tiny_server.py")!r}
c.FoundByNameSpawner.engine_dir = "@engine@"
"""

COMMON = """
c.JupyterHub.allow_named_servers = True
c.JupyterHub.cleanup_servers = False
c.JupyterHub.log_level = "INFO"
c.Spawner.http_timeout = 15
c.Spawner.start_timeout = 20
c.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0, "slow_stop_timeout": 0}
"""


@dataclass
class Report:
    """What a run found: `problems` is empty when all holds."""

    kills: int = 0
    starts: int = 0
    stops: int = 0
    back_seconds: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        back = sorted(self.back_seconds) or [0.0]
        return (
            f"{self.kills} kills, {self.starts} starts and {self.stops} stops asked for; back after "
            f"{back[len(back) // 2]:.2f} s (median), {back[-1]:.2f} s (longest); {len(self.problems)} problems"
        )


class Harness:
    """One Hub, some people, a seeded random source."""

    def __init__(self, directory: Path, spawner: str, *, people: int, seed: int, db_url: str = "") -> None:
        self.random = random.Random(seed)
        self.report = Report()
        engine = directory / "engine"
        engine.mkdir(parents=True, exist_ok=True)
        self.engine = engine
        config = COMMON + {"local": LOCAL, "found-by-name": FOUND_BY_NAME}[spawner].replace("@engine@", str(engine))
        self.hub = HubProcess(directory, config, db_url=db_url, env={"TEST_HUB_DIRECTORY": str(directory)})
        self.people = [f"person{number}" for number in range(people)]
        self.servers = [(name, server) for name in self.people for server in ("", "lab")]

    def prepare(self) -> None:
        self.hub.start()
        answer = self.hub.api("POST", "/users", {"usernames": self.people})
        assert answer.status == 201, answer

    def act(self) -> None:
        """Ask for one random start or stop. Refusals and a Hub that is away are part of the game."""
        name, server = self.random.choice(self.servers)
        try:
            if self.random.random() < 0.6:
                self.report.starts += 1
                self.hub.start_server(name, server)
            else:
                self.report.stops += 1
                self.hub.stop_server(name, server)
        except OSError:
            pass

    def round(self) -> None:
        """Some actions, then a kill at a random instant, then a restart."""
        for _ in range(self.random.randint(2, 6)):
            self.act()
            if self.random.random() < 0.5:
                time.sleep(self.random.uniform(0, 0.05))
        time.sleep(self.random.uniform(0, 0.8))
        self.hub.kill()
        self.report.kills += 1
        if self.random.random() < 0.15:
            # Also during its own start, when it is busy with what the last kill left.
            self.hub.start(wait=False)
            time.sleep(self.random.uniform(0.1, 1.5))
            self.hub.kill()
            self.report.kills += 1
        self.report.back_seconds.append(self.hub.start())

    def models(self) -> dict[tuple[str, str], dict]:
        users = self.hub.api("GET", "/users?include_stopped_servers=1").json()
        return {(user["name"], name): server for user in users for name, server in user.get("servers", {}).items()}

    def settle(self) -> dict[tuple[str, str], dict]:
        def nothing_pending() -> dict | None:
            models = self.models()
            return models if models and not any(model["pending"] for model in models.values()) else None

        return wait_for(nothing_pending, f"nothing is pending\n{self.hub.log_tail(80)}", 120, 0.2)

    def verify(self) -> None:
        """Collect everything that does not hold into the report."""
        problems = self.report.problems
        models = self.settle()
        ready = {key for key, model in models.items() if model["ready"]}
        for key, model in models.items():
            if model["ready"] == model["stopped"]:
                problems.append(f"{key} is neither ready nor stopped: {model}")
        living = self.living()
        if sorted(living) != sorted(ready):
            extra = [key for key in living if key not in ready]
            double = [key for key in set(living) if living.count(key) > 1]
            missing = [key for key in ready if key not in living]
            problems.append(f"processes: left over {extra}, double {double}, missing {missing}")
        routed = self.routed()
        if routed != ready:
            problems.append(f"routes: left over {routed - ready}, missing {ready - routed}")
        for name, server in ready:
            answer = self.hub.request("GET", f"/user/{name}/{server + '/' if server else ''}api")
            if answer.status != 200:
                problems.append(f"{name}/{server} is ready and answers {answer.status}")
        problems += self.rows_left_over(ready)

    def living(self) -> list[tuple[str, str]]:
        """Servers that have a living process, told by the processes' own environment."""
        found = []
        for process in self.hub.processes():
            try:
                if "tiny_server.py" not in " ".join(process.cmdline()):
                    continue
                environment = process.environ()
                found.append((environment["JUPYTERHUB_USER"], environment["JUPYTERHUB_SERVER_NAME"]))
            except (psutil.NoSuchProcess, KeyError):
                continue
        return found

    def routed(self) -> set[tuple[str, str]]:
        found = set()
        for route in self.hub.routes().values():
            data = route.get("data") or {}
            if "user" in data:
                found.add((data["user"], data.get("server_name", "")))
        return found

    def rows_left_over(self, ready: set[tuple[str, str]]) -> list[str]:
        database = sqlite3.connect(self.hub.directory / "jupyterhub.sqlite")
        try:
            tokens = [row[0] for row in database.execute("SELECT note FROM api_tokens WHERE note LIKE 'Server at %'")]
            servers = database.execute("SELECT count(*) FROM servers").fetchone()[0]
            clients = database.execute(
                "SELECT count(*) FROM oauth_clients WHERE identifier LIKE 'jupyterhub-user-%'"
            ).fetchone()[0]
        finally:
            database.close()
        wanted = sorted(f"Server at /user/{name}/{server + '/' if server else ''}" for name, server in ready)
        problems = []
        if sorted(tokens) != wanted:
            problems.append(f"server tokens: {sorted(tokens)}, wanted {wanted}")
        if servers != len(ready):
            problems.append(f"{servers} rows in servers for {len(ready)} ready servers")
        if clients != len(ready):
            problems.append(f"{clients} OAuth clients for {len(ready)} ready servers")
        return problems

    def everybody_again(self) -> None:
        """Everybody can stop and start once more."""
        for name, server in self.servers:
            if self.hub.server(name, server) is not None:
                self.hub.stop_server(name, server)
        self.settle()
        for name, server in self.servers:
            answer = self.hub.start_server(name, server)
            if answer.status not in (201, 202):
                self.report.problems.append(f"{name}/{server} cannot start again: {answer}")
        models = self.settle()
        for key in self.servers:
            if not models.get(key, {}).get("ready"):
                self.report.problems.append(f"{key} did not start again: {models.get(key)}")
        for name, server in self.servers:
            self.hub.stop_server(name, server)
        self.settle()
        left = self.living()
        if left:
            self.report.problems.append(f"processes left after everybody stopped: {left}")


def run(directory: Path, spawner: str, *, kills: int, people: int = 4, seed: int = 0, db_url: str = "") -> Report:
    """Run the harness until at least `kills` kills have happened and everything has been looked at."""
    harness = Harness(directory, spawner, people=people, seed=seed, db_url=db_url)
    try:
        harness.prepare()
        while harness.report.kills < kills:
            harness.round()
        harness.verify()
        harness.everybody_again()
    finally:
        harness.hub.clean_up()
    return harness.report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="at least so many kills in all")
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spawner", choices=["local", "found-by-name", "both"], default="both")
    parser.add_argument("--keep", action="store_true", help="keep the directory with the Hub's log and database")
    options = parser.parse_args()
    spawners = ["local", "found-by-name"] if options.spawner == "both" else [options.spawner]
    failed = False
    for spawner in spawners:
        directory = Path(tempfile.mkdtemp(prefix=f"kill-{spawner}-"))
        report = run(
            directory, spawner, kills=-(-options.kills // len(spawners)), people=options.people, seed=options.seed
        )
        print(f"{spawner}: {report}")
        print(json.dumps(report.problems, indent=2) if report.problems else "  nothing lost")
        failed = failed or bool(report.problems)
        if options.keep or report.problems:
            print(f"  kept: {directory}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
