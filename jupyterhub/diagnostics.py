"""What a process is doing right now, printed for somebody who sent it a signal (cli §1.9)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import traceback

__all__ = ["print_ps_info", "print_stacks"]


def print_ps_info(file: object = None) -> None:
    """Print CPU, memory, open files and threads of this process to `file`, by default stderr."""
    import psutil

    out = file or sys.stderr
    process = psutil.Process()
    with process.oneshot():
        # A process without time to compare with has used its CPU over its whole life.
        memory = process.memory_info()
        print(
            f"process {process.pid}: {process.cpu_percent(0.1):.1f} % CPU, {memory.rss / 2**20:.1f} MiB resident, "
            f"{memory.vms / 2**20:.1f} MiB virtual, {_open_files(process)} open files, "
            f"{process.num_threads()} threads",
            file=out,  # type: ignore[arg-type]
        )


def _open_files(process: object) -> str:
    with contextlib.suppress(Exception):
        return str(process.num_fds())  # type: ignore[attr-defined]
    return "?"


def print_stacks(file: object = None) -> None:
    """Print the stack of every thread and every task of this process to `file`, by default stderr."""
    out = file or sys.stderr
    frames = sys._current_frames()
    threads = {thread.ident: thread.name for thread in threading.enumerate()}
    print(f"{len(frames)} threads of process {os.getpid()}", file=out)  # type: ignore[arg-type]
    for ident, frame in frames.items():
        print(f"\nThread {threads.get(ident, ident)}:", file=out)  # type: ignore[arg-type]
        traceback.print_stack(frame, file=out)  # type: ignore[arg-type]
    with contextlib.suppress(RuntimeError):
        tasks = asyncio.all_tasks()
        print(f"\n{len(tasks)} tasks", flush=True)
        for task in tasks:
            print(f"\nTask {task.get_name()}:", file=out)  # type: ignore[arg-type]
            task.print_stack(file=out)  # type: ignore[arg-type]
