"""A real Slurm on this machine: a controller and three nodes, one of them unlike the others, in a folder of its own."""

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

NODES = {"na": "CPUs=2 Feature=old", "nb": "CPUs=2 Feature=old", "nc": "CPUs=1 Feature=new"}
"""What each node is declared to have, whatever this machine has."""

_CONFIG = """
ClusterName=test
SlurmctldHost={host}
SlurmctldPort={port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmUser=root
SlurmdUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmdPidFile={folder}/%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
SlurmdParameters=config_overrides
MinJobAge=3600
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
SlurmdTimeout=10
KillWait=2
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
PartitionName=main Nodes=ALL Default=YES State=UP
"""

_PROLOG = """#!/bin/sh
case $SLURMD_NODENAME in nc) kind=new;; *) kind=old;; esac
echo "export RNN_PARITY_MACHINE=$kind"
"""
"""What runs on a node says that it is of the kind which its feature names: all nodes are this one machine."""

CONFIG = Path("/etc/slurm/slurm.conf")
"""Here, since jobs do not hand `SLURM_CONF` on to their steps."""


class Cluster:
    """A node is named by its key in `NODES`."""

    def __init__(self, folder: Path):
        self.folder, host = folder, socket.gethostname()
        ports = _free_ports(len(NODES) + 1)
        nodes = zip(NODES.items(), ports[1:], strict=True)
        lines = [f"NodeName={n} NodeHostname={host} Port={p} RealMemory=3000 {has}" for (n, has), p in nodes]
        (folder / "state").mkdir()
        text = _CONFIG.format(host=host, port=ports[0], folder=folder) + "\n".join(lines) + "\n"
        (folder / "slurm.conf").write_text(text)
        (folder / "prolog").write_text(_PROLOG)
        (folder / "prolog").chmod(0o755)

    def start(self):
        if CONFIG.is_symlink() and not CONFIG.exists():  # of a test that was killed
            CONFIG.unlink()
        CONFIG.symlink_to(self.folder / "slurm.conf")
        key = self.folder / "munge.key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        places = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{name}={self.folder}/munge.{end}" for name, end in places.items()]
        self.run("munged", f"--key-file={key}", "--force", *options)
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        self.wait_for(self._is_ready)

    def _is_ready(self):
        """Whether every node is idle and has a daemon of its own: a node whose port another holds is idle as well."""
        idle = self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split()
        return idle == sorted(NODES) and all((self.folder / f"{node}.pid").exists() for node in NODES)

    def stop(self):
        for daemon in (*NODES, "slurmctld", "munge"):
            self.kill(daemon)
        CONFIG.unlink(missing_ok=True)

    def start_controller(self):
        self.run("slurmctld")

    def start_node(self, node):
        (self.folder / node).mkdir(exist_ok=True)
        self.run("slurmd", "-N", node)

    def kill(self, daemon, how=signal.SIGKILL):
        """End a daemon; with a node dies all that runs on it, first what would report its end."""
        pid = self.folder / f"{daemon}.pid"
        ended = [psutil.Process(int(pid.read_text()))] if pid.exists() else []
        ended += [
            process for process in psutil.process_iter() if _environment(process).get("SLURMD_NODENAME") == daemon
        ]
        ended[1:1] = {p.parent() for p in ended[1:] if p.parent() and p.parent().name() == "slurmstepd"}
        for process in ended:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(how)
        self.wait_for(lambda: not any(map(_runs, ended)))
        pid.unlink(missing_ok=True)

    def jobs(self):
        """Every job that was ever submitted: its id, state, comment, node, and whether others may be on its nodes."""
        lines = self.run("squeue", "--states=all", "--noheader", "--format=%i|%T|%k|%N|%h|%C").splitlines()
        names = ("id", "state", "comment", "node", "shared", "cpus")
        return [dict(zip(names, line.split("|"), strict=True)) for line in lines]

    def run(self, *command, check=True):
        """The output of a command of Slurm."""
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def wait_for(self, what, patience_s=300):
        """Wait until something holds; where it never does, say what became of jobs and nodes."""
        until = time.monotonic() + patience_s
        while not what():
            if time.monotonic() > until:
                logs = [log.read_text().splitlines()[-40:] for log in sorted(self.folder.glob("*.log"))]
                jobs = self.run("squeue", "--states=all", check=False)
                raise AssertionError("\n".join(["it does not come", jobs, *itertools.chain(*logs)]))
            time.sleep(0.2)


def _runs(process):
    """Whether a process is there and not only waits for its parent to hear of its end."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _environment(process):
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _free_ports(count):
    """Ports that differ, below those which Linux gives to connections: a daemon that is started again finds its own."""
    with ExitStack() as held:
        ports = []
        while len(ports) < count:
            free, port = held.enter_context(socket.socket()), random.randrange(20_000, 32_000)
            with suppress(OSError):
                free.bind(("", port))
                ports.append(port)
        return ports


def is_installed():
    return all(map(shutil.which, ("slurmctld", "slurmd", "munged"))) and os.getuid() == 0
