"""A real Slurm of three nodes on this machine, in a scratch folder, without systemd or a database."""

import os
import secrets
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.workflow.held import LIMIT, wait_until

NODES = ("node1", "node2", "node3")

CONFIGURATION = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket.2,cred_expire=10
CredType=cred/munge
SlurmctldPort={controller_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
MailProg=/bin/true
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
DefMemPerCPU=500
SlurmdTimeout={silence}
SlurmctldTimeout=300
InactiveLimit=0
KillWait=2
SlurmdParameters=config_overrides
{nodes}
PartitionName=main Nodes=node[1-3] Default=YES MaxTime=INFINITE State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: its scratch folder, and the environment to talk to it."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *command: str) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=LIMIT, check=True
        )
        return done.stdout

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon and, as a machine that loses power would, all its jobs' processes."""
        daemon = int((self.folder / f"run/slurmd-{node}.pid").read_text())
        for job in self.ask("squeue", "-h", "-w", node, "-o", "%A").split():
            for command in ("slurmstepd: [{job}.", "slurmstepd: [{job}]"):
                pattern = command.format(job=job).replace("[", r"\[").replace("]", r"\]")
                steps = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True)
                for step in steps.stdout.split():
                    _kill_tree(int(step))
        os.kill(daemon, signal.SIGKILL)


def _kill_tree(pid: int) -> None:
    children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    for child in children.stdout.split():
        _kill_tree(int(child))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _write_configuration(folder: Path, silence: int) -> None:
    controller, *ports = _free_ports(1 + len(NODES))
    lines = [
        f"NodeName={node} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2 "
        "RealMemory=8000 State=UNKNOWN"
        for node, port in zip(NODES, ports, strict=True)
    ]
    text = CONFIGURATION.format(
        folder=folder, controller_port=controller, silence=silence, nodes="\n".join(lines)
    )
    (folder / "etc/slurm.conf").write_text(text)


@contextmanager
def cluster(folder: Path, silence: int) -> Iterator[Cluster]:
    """Start a cluster in an empty folder; stop it at the end, by the pids it wrote.

    Args:
        folder: Where its files are to be.
        silence: Seconds after which a node that does not answer is taken for dead.
    """
    for name in ("etc", "munge", "state", "run", "log", "bin", *(f"spool/{n}" for n in NODES)):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o711)
    _write_configuration(folder, silence)
    key = folder / "munge/munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    configuration = str(folder / "etc/slurm.conf")
    # The executor's job step forgets SLURM_CONF; a cluster with its file in the standard place
    # needs no such wrapper.
    wrapper = folder / "bin/srun"
    wrapper.write_text(f'#!/bin/sh\nSLURM_CONF="{configuration}" exec /usr/bin/srun "$@"\n')
    wrapper.chmod(0o755)
    environment = os.environ | {
        "SLURM_CONF": configuration,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
    }

    def start(*command: str) -> None:
        subprocess.run(command, env=environment, check=True, timeout=LIMIT, capture_output=True)

    try:
        start(
            "munged", "--force", f"--key-file={key}", f"--socket={folder}/munge/munge.socket.2",
            f"--pid-file={folder}/munge/munged.pid", f"--log-file={folder}/log/munged.log",
            f"--seed-file={folder}/munge/munged.seed",
        )  # fmt: skip
        start("slurmctld")
        for node in NODES:
            start("slurmd", "-N", node)
        running = Cluster(folder, environment)
        wait_until(lambda: _all_idle(running), "the nodes of the cluster")
        yield running
    finally:
        for pid_file in [*folder.glob("run/*.pid"), folder / "munge/munged.pid"]:
            _stop(pid_file)


def _all_idle(running: Cluster) -> bool:
    return running.ask("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * len(NODES)


def _stop(pid_file: Path) -> None:
    """Stop the daemon a pid file names, unless the pid is stale and someone else's by now."""
    try:
        pid = int(pid_file.read_text())
        name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except (OSError, ValueError):
        return
    if Path(name).name in ("slurmctld", "slurmd", "munged"):
        os.kill(pid, signal.SIGTERM)
