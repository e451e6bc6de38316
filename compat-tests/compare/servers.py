"""The servers: how each is started, stopped, and what the operating system says of its process."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
JAVA = HERE.parent / "clients" / "java"
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS_MAX = 60

# p50,p99 in ms and ms for each MiB, as `s3-server` takes them; of the field (S3 Standard and Express One Zone).
LATENCIES = {"no": ("0", "0", "0"), "Standard": ("60,180", "25,100", "10"), "Express": ("6,18", "3,15", "2")}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def surroundings():
    """The environment without this comparison's own names, which a gateway refuses as unknown options."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STREAMHOUSE_")}


class Server:
    """One run of a server on an empty folder. A context manager: started on entry, killed and cleaned up on exit."""

    name = "?"

    def __init__(self):
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="compare-"))
        self.process = None
        self.beside = []

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def prepare(self):
        """What has to be done once before the start, and is not part of its time."""

    def command(self):
        """Arguments and environment of the process."""
        raise NotImplementedError

    def __enter__(self):
        self.prepare()
        arguments, environment = self.command()
        self.log = self.folder / "log"
        began = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                arguments, env={**surroundings(), **environment}, stdout=log, stderr=log, cwd=self.folder
            )
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() - began > START_SECONDS_MAX:
                said = self.log.read_text(errors="replace")[-2000:]
                self.__exit__()
                raise SystemExit(f"{self.name} did not start: {said}")
            time.sleep(0.005)
        self.start_seconds = time.monotonic() - began
        return self

    def _answers(self):
        # ApiVersions 0, so that a port that is open but not served yet does not count.
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as s:
                s.settimeout(2)
                s.sendall(bytes.fromhex("0000000a 0012 0000 00000001 ffff".replace(" ", "")))
                return len(s.recv(4)) == 4
        except OSError:
            return False

    def __exit__(self, *_):
        for process in filter(None, [self.process, *self.beside]):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cpu_seconds(self):
        """User and system time of the process so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self, which="VmHWM"):
        """The most it ever had resident (`VmHWM`), or what it has now (`VmRSS`)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{which}:\s+(\d+)", status)[1]) / 1024

    def disk_written_mib(self):
        return int(re.search(r"\nwrite_bytes: (\d+)", Path(f"/proc/{self.process.pid}/io").read_text())[1]) / 2**20

    def requests(self):
        """PUTs and GETs at the bucket so far; nothing without one."""
        return None


class Kafka(Server):
    """Apache Kafka from its published jars: one KRaft node, with the memory and collector its own start script gives it."""

    name = "Apache Kafka"

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
        tool("kafka-storage", "format", "--cluster-id", "Y29tcGFyZS1jb21wYXJlMA", "--config", self.properties)

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
        self.bucket = Bucket(*LATENCIES[self.latencies])
        self.beside.append(self.bucket.process)
        place = ["--bucket", self.bucket.name, "--endpoint", self.bucket.endpoint]
        return [os.environ["STREAMHOUSE_BIN"], *listen, *place, *self.options], self.bucket.environment

    def requests(self):
        return self.bucket and self.bucket.requests()


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
        self.bucket = Bucket(*LATENCIES[self.latencies])
        self.beside.append(self.bucket.process)
        environment = {
            **self.bucket.environment,
            "AWS_ENDPOINT": self.bucket.endpoint,
            "AWS_DEFAULT_REGION": self.bucket.environment["AWS_REGION"],
            "AWS_ALLOW_HTTP": "true",
        }
        return [os.environ["NISSHI_BIN"], "broker", *listen, "--storage-engine", self.bucket.name + "/"], environment

    def requests(self):
        return self.bucket and self.bucket.requests()


class Bucket:
    """The tests' S3 server in a process of its own."""

    def __init__(self, put, get, per_mib):
        arguments = ["--listen", "127.0.0.1:0", "--put-ms", put, "--get-ms", get, "--ms-per-mib", per_mib]
        self.process = subprocess.Popen(
            [os.environ["S3_SERVER_BIN"], *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.endpoint, self.name = re.match(r"listening on (\S+), bucket (\S+)", self._line()).groups()
        exports = [self._line().removeprefix("export ").split("=", 1) for _ in range(3)]
        self.environment = dict(exports)

    def _line(self):
        return self.process.stdout.readline().strip()

    def requests(self):
        print("counts", file=self.process.stdin, flush=True)
        puts, gets, *_ = map(int, self._line().split())
        return {"PUT": puts, "GET": gets}


def tool(*arguments):
    """Runs one of Kafka's own tools; answers what it printed."""
    command = ["bash", str(JAVA / "tools.sh"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return done.stdout


def machine():
    """The machine in one line."""
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    return f"{os.cpu_count()} x {cpu[1] if cpu else 'unknown CPU'}, {memory:.0f} GiB, Linux {os.uname().release}"


if __name__ == "__main__":
    print(json.dumps({"machine": machine()}))
