"""The servers: how each is started, stopped, and what the operating system says of its process."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from clients import CLIENTS, Failed, tool

JAVA = CLIENTS / "java"
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS_MAX = 60
STOP_SECONDS_MAX = 15

# p50,p99 in ms and ms for each MiB, as `s3-server` takes them; of the field (S3 Standard and Express One Zone).
LATENCIES = {"no": ("0", "0", "0"), "Standard": ("60,180", "25,100", "10"), "Express": ("6,18", "3,15", "2")}

# USD in us-east-1: 1,000 PUTs or LISTs, 1,000 GETs or HEADs, a GiB sent, a GiB read (storage/src/cost.rs has the same).
STANDARD = (0.005, 0.0004, 0.0, 0.0)
PRICES = {"no": STANDARD, "Standard": STANDARD, "Express": (0.00113, 0.00003, 0.0032, 0.0006)}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def surroundings():
    """The environment without this comparison's own names, which a gateway refuses as unknown options."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STREAMHOUSE_")}


class Server:
    """One run of a server on an empty folder: started, measured, stopped, cleaned up."""

    name = "?"
    # Whether topics must be made before they are used.
    has_topics = True

    def __init__(self):
        self.port = None
        self.folder = None
        self.process = None
        self.beside = []
        self.start_seconds = 0.0

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def prepare(self):
        """What has to be done once before the start, and is not part of its time."""

    def command(self):
        """Arguments and environment of the process."""
        raise NotImplementedError

    def start(self):
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="compare-"))
        self.prepare()
        arguments, environment = self.command()
        environment = {**surroundings(), **environment}
        log = self.folder / "log"
        began = time.monotonic()
        with open(log, "wb") as out:
            self.process = subprocess.Popen(
                arguments, env=environment, stdout=out, stderr=out, cwd=self.folder, start_new_session=True
            )
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() - began > START_SECONDS_MAX:
                raise Failed(f"did not start: {log.read_text(errors='replace')[-1000:]}")
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - began

    def _answers(self):
        # ApiVersions 0, so that a port that is open but not served yet does not count.
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as s:
                s.settimeout(2)
                s.sendall(bytes.fromhex("0000000a 0012 0000 00000001 ffff".replace(" ", "")))
                return len(s.recv(4)) == 4
        except OSError:
            return False

    def stop(self):
        """Whatever state it is in, also half started."""
        for process in filter(None, [self.process, *self.beside]):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def why_ended(self):
        """What it said last, if it ended by itself."""
        if self.process is None or self.process.poll() is None:
            return None
        said = (self.folder / "log").read_text(errors="replace")[-500:]
        return f"the server ended with {self.process.returncode}: {said}"

    def cpu_seconds(self):
        """User and system time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self, which="VmHWM"):
        """The most it ever had resident (`VmHWM`), or what it has now (`VmRSS`)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{which}:\s+(\d+)", status)[1]) / 1024

    def disk_mib(self, which):
        """What it made the disk write (`write_bytes`) or read (`read_bytes`), MiB."""
        return int(re.search(rf"\n{which}: (\d+)", Path(f"/proc/{self.process.pid}/io").read_text())[1]) / 2**20

    def bucket_use(self):
        """Requests and bytes at the bucket so far; nothing without one."""
        return None

    def money(self, use):
        """USD for so much use of the bucket."""
        return 0.0


class Kafka(Server):
    """Apache Kafka from its published jars: one KRaft node, with the memory and collector its own start script gives it."""

    name = "Apache Kafka"

    # The formatted folder, made once and copied: it knows no port.
    formatted = None

    def __init__(self, flush_each=False):
        super().__init__()
        self.flush_each = flush_each
        if flush_each:
            self.name = "Apache Kafka, flush.messages=1"

    def prepare(self):
        controller = free_port()
        lines = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.folder / "data",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
        }
        if self.flush_each:
            lines["log.flush.interval.messages"] = 1
        self.properties = self.folder / "server.properties"
        self.properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        if Kafka.formatted is None:
            tool("kafka-storage", "format", "--cluster-id", "Y29tcGFyZS1jb21wYXJlMA", "--config", self.properties)
            Kafka.formatted = tempfile.TemporaryDirectory(prefix="compare-formatted-")
            shutil.copytree(self.folder / "data", Kafka.formatted.name, dirs_exist_ok=True)
        else:
            shutil.copytree(Kafka.formatted.name, self.folder / "data")

    def command(self):
        jars = [str(jar) for jar in (JAVA / "target/tools/lib").glob("*.jar") if not jar.name.startswith("slf4j-simple")]
        logging = f"-Dlog4j2.configurationFile={JAVA / 'tools/log4j2.properties'}"
        collector = ["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]
        heap = ["-Xmx1G", "-Xms1G", "-server", "-XX:+ExplicitGCInvokesConcurrent"]
        return ["java", *heap, *collector, logging, "-cp", ":".join(jars), "kafka.Kafka", str(self.properties)], {}


class StreamHouse(Server):
    """The gateway as `cargo build --release` leaves it, with its defaults; on a folder, or on the tests' S3 server."""

    def __init__(self, latencies=None, *options):
        super().__init__()
        self.latencies, self.options, self.bucket = latencies, options, None
        self.name = "StreamHouse, folder" if latencies is None else f"StreamHouse, S3 ({latencies} latency)"

    def command(self):
        listen = ["--listen", self.address, "--admin", "127.0.0.1:0", "--log", "warn"]
        if self.latencies is None:
            return [os.environ["STREAMHOUSE_BIN"], *listen, "--data", str(self.folder / "data"), *self.options], {}
        self.bucket = Bucket(self.latencies)
        self.beside.append(self.bucket.process)
        place = ["--bucket", self.bucket.name, "--endpoint", self.bucket.endpoint]
        return [os.environ["STREAMHOUSE_BIN"], *listen, *place, *self.options], self.bucket.environment

    def bucket_use(self):
        return self.bucket and self.bucket.use()

    def money(self, use):
        return self.bucket.money(use)


class Nisshi(Server):
    """The nearest peer in Rust, from crates.io; in memory (it has no folder without a database), or on the tests' S3 server."""

    def __init__(self, latencies=None):
        super().__init__()
        self.latencies, self.bucket = latencies, None
        self.name = "Nisshi, memory" if latencies is None else f"Nisshi, S3 ({latencies} latency)"

    def command(self):
        listen = ["--listener-url", f"tcp://{self.address}", "--advertised-listener-url", f"tcp://{self.address}"]
        if self.latencies is None:
            return [os.environ["NISSHI_BIN"], "broker", *listen, "--storage-engine", "memory://nisshi/"], {}
        self.bucket = Bucket(self.latencies)
        self.beside.append(self.bucket.process)
        environment = {
            **self.bucket.environment,
            "AWS_ENDPOINT": self.bucket.endpoint,
            "AWS_DEFAULT_REGION": self.bucket.environment["AWS_REGION"],
            "AWS_ALLOW_HTTP": "true",
        }
        return [os.environ["NISSHI_BIN"], "broker", *listen, "--storage-engine", self.bucket.name + "/"], environment

    def bucket_use(self):
        return self.bucket and self.bucket.use()

    def money(self, use):
        return self.bucket.money(use)


class Null(Server):
    """Answers at once and keeps nothing: what clients reach with it is their own limit on this machine."""

    name = "null server"
    has_topics = False

    def command(self):
        return [os.environ["NULL_SERVER_BIN"], "--listen", self.address], {}


class Bucket:
    """The tests' S3 server in a process of its own."""

    USE = ["PUT", "GET", "bytes in", "bytes out", "LIST", "HEAD", "parts"]

    def __init__(self, latencies):
        put, get, per_mib = LATENCIES[latencies]
        self.prices = PRICES[latencies]
        arguments = ["--listen", "127.0.0.1:0", "--put-ms", put, "--get-ms", get, "--ms-per-mib", per_mib]
        self.process = subprocess.Popen(
            [os.environ["S3_SERVER_BIN"], *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.endpoint, self.name = re.match(r"listening on (\S+), bucket (\S+)", self._line()).groups()
        exports = [self._line().removeprefix("export ").split("=", 1) for _ in range(3)]
        self.environment = dict(exports)

    def _line(self):
        return self.process.stdout.readline().strip()

    def use(self):
        print("counts", file=self.process.stdin, flush=True)
        return dict.fromkeys(self.USE, 0) | dict(zip(self.USE, map(int, self._line().split())))

    def money(self, use):
        put, get, sent, read = self.prices
        requests = (use["PUT"] + use["LIST"] + use["parts"]) * put + (use["GET"] + use["HEAD"]) * get
        return requests / 1000 + (use["bytes in"] * sent + use["bytes out"] * read) / 2**30


def loopback_mib():
    """Everything that went over the loopback so far, MiB."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0]) / 2**20


def machine():
    """The machine in one line."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    return f"{os.cpu_count()} x {cpu[1] if cpu else 'unknown CPU'}, {memory:.0f} GiB, Linux {os.uname().release}"
