"""A whole Kubernetes node on this machine, for what no control plane alone can show: pods that run.

    python scripts/node/node.py can                       whether this machine lets it; if not, why
    python scripts/node/node.py up [--image ARCHIVE …]    prints the path of a kubeconfig; ``--fresh``: nothing is
                                                          there of a node before
    python scripts/node/node.py down [--keep]             ``--keep``: etcd, images and volumes stay for the next time
    python scripts/node/node.py import ARCHIVE …          images for its containers
    python scripts/node/node.py restart DAEMON            kills it; it is started again by itself
    python scripts/node/node.py kill CONTAINER            its first process, by the id that its pod's status has
    python scripts/node/node.py kubeconfig                prints the path, whether the node is up or not

It lives in network, mount and pid namespaces of its own: nothing of the machine is changed, and when its first
process is killed it is gone. The machine reaches pods and services through a pair of interfaces; pods have no way
out, and no image is ever pulled. It needs root on Debian, and what ``scripts/servers/node.sh`` brings.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
CACHE = (
    Path(
        os.environ.get("TRADINGBOT_SERVERS")
        or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tradingbot-servers"
    )
    / "kubernetes"
)
BIN = CACHE / "bin"
CONTAINERD = CACHE / "containerd" / "usr" / "bin"
RUN = CACHE / "run"
"""All that a running node has made."""
CONFIG = RUN / "etc"
LOGS = RUN / "log"
KUBECONFIG = CONFIG / "admin.kubeconfig"
SOCKET = RUN / "run-containerd" / "containerd.sock"
PID = RUN / "init.pid"

NAMESPACE, LINK = "tradingbot-node", "tbnode0"
HOST_IP, NODE_IP, PREFIX = "10.88.77.1", "10.88.77.2", 24
POD_CIDR, SERVICE_CIDR, API_SERVICE, DNS = "10.244.0.0/16", "10.96.0.0/16", "10.96.0.1", "10.96.0.10"
NODE = "n1"
PAUSE = "registry.k8s.io/pause:3.10"

BUNDLED = {
    PAUSE: {"/pause": "pause"},
    "registry.k8s.io/coredns/coredns:v1.15.0": {"/coredns": "coredns"},
    "docker.io/rancher/local-path-provisioner:v0.0.30": {"/usr/bin/local-path-provisioner": "local-path-provisioner"},
}
"""Images of one program each: its path in the image, and in ``BIN``."""

Words = Sequence[str | Path]


def run(words: Words, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], **{"check": True, "text": True, **options})


def quietly(words: Words, **options: Any) -> subprocess.CompletedProcess[str]:
    """What it prints is shown when it fails."""
    done = run(words, capture_output=True, **{**options, "check": False})
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def ctr(*words: str | Path) -> list[str | Path]:
    return [CONTAINERD / "ctr", "--address", SOCKET, "--namespace", "k8s.io", *words]


def kubectl(*words: str | Path) -> list[str | Path]:
    return [BIN / "kubectl", "--kubeconfig", KUBECONFIG, *words]


# --- up ----------------------------------------------------------------------------------------------------------


def up(archives: Sequence[Path], fresh: bool) -> None:
    """What does not come up is taken down again, but for its logs; one that is up already is left alone."""
    if is_up():
        raise SystemExit(f"it is up already: {KUBECONFIG}")
    if fresh:
        down(keep=False)
    try:
        _start(archives)
    except BaseException:
        down(keep=True)
        raise
    print(KUBECONFIG)


def _start(archives: Sequence[Path]) -> None:
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr, flush=True)

    for folder in (RUN, CONFIG, LOGS):
        folder.mkdir(parents=True, exist_ok=True)
    _link()
    _certificates()
    _configuration()
    with (LOGS / "init.log").open("ab") as output:
        own = [
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            sys.executable,
            __file__,
            "init",
        ]
        first = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{NAMESPACE}", *own],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    PID.write_text(str(first.pid))

    def wait(what: str, words: Words, limit: float = 120) -> None:
        deadline = time.monotonic() + limit
        while run(words, check=False, capture_output=True).returncode:
            if first.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"not within {limit:g} s: {what}; see {LOGS}")
            time.sleep(0.2)
        say(what)

    wait("containerd answers", ctr("version"))
    import_images([*_bundled(), *archives])
    say("the images are imported")
    wait("the API server is ready", kubectl("get", "--raw", "/readyz"))
    wait("the node is registered", kubectl("get", "node", NODE))
    for manifest in sorted((HERE / "manifests").glob("*.yaml")):
        text = manifest.read_text().replace("VOLUMES", str(RUN / "volumes"))
        quietly(kubectl("apply", "-f", "-"), input=text)
    wait("the node is ready", kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=60s"))
    for namespace, name in (("kube-system", "coredns"), ("local-path-storage", "local-path-provisioner")):
        wait(f"{name} is available", kubectl("-n", namespace, "rollout", "status", f"deploy/{name}", "--timeout=60s"))


def can() -> None:
    """Each thing that a container may be denied, tried."""
    probe = f"{NAMESPACE}-probe"
    group = next(Path("/sys/fs/cgroup").glob("*/cgroup.procs"), None)
    folder = (group.parent if group is not None else Path("/sys/fs/cgroup")) / probe
    tried: dict[str, list[Words]] = {
        "namespaces": [["unshare", "--mount", "--pid", "--fork", "--mount-proc", "true"]],
        "a network of its own": [
            ["ip", "netns", "add", probe],
            ["ip", "link", "add", f"{LINK}p", "type", "veth", "peer", "name", "eth0", "netns", probe],
            ["ip", "netns", "exec", probe, "iptables", "-t", "nat", "-L"],
            ["ip", "netns", "del", probe],
        ],
        "control groups": [["mkdir", folder], ["rmdir", folder]],
    }
    for what, commands in tried.items():
        for words in commands:
            done = run(words, check=False, capture_output=True)
            if done.returncode:
                run(["ip", "netns", "del", probe], check=False, capture_output=True)
                raise SystemExit(f"this machine denies {what}: {' '.join(map(str, words))}: {done.stderr.strip()}")


def is_up() -> bool:
    """What is written down may be from before a restart of the machine, and its number another's today."""
    try:
        return Path(__file__).name.encode() in Path("/proc", PID.read_text(), "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _link() -> None:
    """One pair of interfaces, and the machine's routes to services and pods through it."""
    if Path("/run/netns", NAMESPACE).exists():
        return
    inside = ("ip", "-n", NAMESPACE)
    run(["ip", "netns", "add", NAMESPACE])
    run(["ip", "link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE])
    run(["ip", "addr", "add", f"{HOST_IP}/{PREFIX}", "dev", LINK])
    run(["ip", "link", "set", LINK, "up"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "addr", "add", f"{NODE_IP}/{PREFIX}", "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "up"])
    run([*inside, "route", "add", "default", "via", HOST_IP])
    for network in (SERVICE_CIDR, POD_CIDR):
        run(["ip", "route", "add", network, "via", NODE_IP])


def _certificates() -> None:
    if (CONFIG / "ca.crt").exists():
        return
    # Python 3.13 takes no authority that does not say what its key is for.
    usage = ("-addext", "keyUsage=critical,digitalSignature,keyCertSign,cRLSign")
    ca = (*usage, "-keyout", CONFIG / "ca.key", "-out", CONFIG / "ca.crt")
    quietly(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3650", "-subj", "/CN=kubernetes", *ca]
    )
    quietly(["openssl", "genrsa", "-out", CONFIG / "sa.key", "2048"])
    quietly(["openssl", "rsa", "-in", CONFIG / "sa.key", "-pubout", "-out", CONFIG / "sa.pub"])
    service = [f"kubernetes{rest}" for rest in ("", ".default", ".default.svc", ".default.svc.cluster.local")]
    names = [f"DNS:{name}" for name in (*service, "localhost", NODE)]
    addresses = [f"IP:{address}" for address in (API_SERVICE, NODE_IP, "127.0.0.1")]
    _certificate("apiserver", "/CN=kube-apiserver", ",".join(names + addresses))
    _certificate("kubelet-serving", f"/O=system:nodes/CN=system:node:{NODE}", f"DNS:{NODE},IP:{NODE_IP}")
    _certificate("kubelet-client", "/O=system:masters/CN=kube-apiserver-kubelet-client")
    _certificate("front-proxy", "/CN=front-proxy")
    for user, subject in (
        ("admin", "/O=system:masters/CN=admin"),
        ("controllers", "/CN=system:kube-controller-manager"),
        ("scheduler", "/CN=system:kube-scheduler"),
        ("kubelet", f"/O=system:nodes/CN=system:node:{NODE}"),
        ("proxy", "/CN=system:kube-proxy"),
    ):
        _certificate(user, subject)
        cluster = {"server": f"https://{NODE_IP}:6443", "certificate-authority": str(CONFIG / "ca.crt")}
        keys = {
            "client-certificate": str(CONFIG / f"{user}.crt"),
            "client-key": str(CONFIG / f"{user}.key"),
        }
        _write(
            f"{user}.kubeconfig",
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "node",
                "clusters": [{"name": "node", "cluster": cluster}],
                "users": [{"name": user, "user": keys}],
                "contexts": [{"name": "node", "context": {"cluster": "node", "user": user}}],
            },
        )


def _certificate(name: str, subject: str, alternatives: str = "") -> None:
    """A server's has ``alternatives``, a client's none."""
    usage = "serverAuth" if alternatives else "clientAuth"
    extensions = f"keyUsage=digitalSignature,keyEncipherment\nextendedKeyUsage={usage}\n"
    (CONFIG / f"{name}.ext").write_text(extensions + (f"subjectAltName={alternatives}\n" if alternatives else ""))
    key, request, signed = (CONFIG / f"{name}.{end}" for end in ("key", "csr", "crt"))
    quietly(["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", key, "-out", request])
    by = ("-CA", CONFIG / "ca.crt", "-CAkey", CONFIG / "ca.key", "-CAcreateserial", "-days", "3650")
    quietly(["openssl", "x509", "-req", "-in", request, *by, "-extfile", CONFIG / f"{name}.ext", "-out", signed])


def _write(name: str, document: object) -> None:
    """JSON is YAML."""
    (CONFIG / name).write_text(json.dumps(document, indent=1))


def _configuration() -> None:
    (CONFIG / "containerd.toml").write_text(
        f"""\
version = 2
root = "{RUN}/containerd-root"
state = "/run/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", \
"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  disable_hugetlb_controller = true
  netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = "/usr/sbin/runc"
  SystemdCgroup = false
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
"""
    )
    (RUN / "cni-conf").mkdir(exist_ok=True)
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_CIDR}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    (RUN / "cni-conf" / "10-node.conflist").write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "node", "plugins": plugins})
    )
    (CONFIG / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    _write(
        "kubelet.yaml",
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "cgroupDriver": "cgroupfs",
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(CONFIG / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(CONFIG / "kubelet-serving.crt"),
            "tlsPrivateKeyFile": str(CONFIG / "kubelet-serving.key"),
            "clusterDNS": [DNS],
            "clusterDomain": "cluster.local",
            "resolvConf": str(CONFIG / "resolv.conf"),
            "podLogsDir": "/var/log/pods",
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "nodeStatusReportFrequency": "1m",
            "serializeImagePulls": False,
        },
    )
    _write(
        "kube-proxy.yaml",
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": POD_CIDR,
            "clientConnection": {"kubeconfig": str(CONFIG / "proxy.kubeconfig")},
            "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        },
    )


# --- images ------------------------------------------------------------------------------------------------------


def import_images(archives: Sequence[Path]) -> None:
    for archive in archives:
        quietly(ctr("images", "import", "--snapshotter", "overlayfs", archive))


def _bundled() -> list[Path]:
    """The node's own images, as archives: a program in an empty root folder each, and busybox."""
    folder = CACHE / "images"
    folder.mkdir(exist_ok=True)
    archives: list[Path] = []
    for name, files in BUNDLED.items():
        [(place, program)] = files.items()
        archives.append(_archive(folder, name, {place: BIN / program}, {"Entrypoint": [place]}))
    busybox = Path("/bin/busybox")
    names = quietly([busybox, "--list"]).stdout.split()
    links = {f"/bin/{name}": "busybox" for name in names if name != "busybox"}
    archives.append(
        _archive(folder, "docker.io/library/busybox:1", {"/bin/busybox": busybox}, {"Cmd": ["sh"]}, links)
    )
    return archives


def _archive(
    folder: Path, name: str, files: dict[str, Path], settings: dict[str, Any], links: dict[str, str] | None = None
) -> Path:
    archive = folder / f"{name.rpartition('/')[2].replace(':', '-')}.tar"
    if archive.exists():
        return archive
    storage = ["--root", CACHE / "buildah", "--runroot", CACHE / "buildah-run", "--storage-driver", "vfs"]
    with tempfile.TemporaryDirectory() as made:
        root = Path(made, "root")
        for each in ("tmp", "etc"):
            (root / each).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        for place, source in files.items():
            target = root / place.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            target.chmod(0o755)
        for place, target_name in (links or {}).items():
            (root / place.lstrip("/")).symlink_to(target_name)
        # Others than root must be able to enter it.
        root.chmod(0o755)
        container = quietly(["buildah", *storage, "from", "scratch"]).stdout.strip()
        quietly(["buildah", *storage, "add", "--quiet", container, root, "/"])
        flags = {"Entrypoint": "--entrypoint", "Cmd": "--cmd"}
        for key, value in settings.items():
            quietly(["buildah", *storage, "config", flags[key], json.dumps(value), container])
        quietly(["buildah", *storage, "commit", "--quiet", "--rm", container, f"docker-archive:{archive}.new:{name}"])
    archive.with_name(f"{archive.name}.new").replace(archive)
    return archive


# --- the node's first process ------------------------------------------------------------------------------------


def init() -> NoReturn:
    """Starts every daemon, starts again what has ended, and waits for orphans. It is killed, never stopped."""
    _mounts()
    commands = _daemons()
    searched = (CONTAINERD, BIN, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
    environment = {**os.environ, "PATH": ":".join(map(str, searched)), "TMPDIR": "/tmp"}
    running: dict[int, str] = {}
    due = dict.fromkeys(commands, 0.0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    while True:
        now = time.monotonic()
        for name, at in due.items():
            waits = name == "kubelet" and not SOCKET.exists()
            if name in running.values() or now < at or waits:
                continue
            with (LOGS / f"{name}.log").open("ab") as output:
                started = subprocess.Popen(
                    [str(word) for word in commands[name]],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                )
            running[started.pid] = name
            (RUN / f"{name}.pid").write_text(str(started.pid))
            print(f"{time.time():.1f} started {name}", flush=True)
        for pid, status in _ended():
            if pid in running:
                name = running.pop(pid)
                due[name] = now + 1
                print(f"{time.time():.1f} {name} ended with {status}", flush=True)
        time.sleep(0.1)


def _ended() -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, status))


def _mounts() -> None:
    """All of them in this mount namespace only."""
    run(["mount", "--make-rshared", "/"])
    for source, place in (
        ("kubelet", "/var/lib/kubelet"),
        ("pods-log", "/var/log/pods"),
        ("containers-log", "/var/log/containers"),
        ("cni-conf", "/etc/cni/net.d"),
        ("cni-state", "/var/lib/cni"),
        ("run-containerd", "/run/containerd"),
        ("nri", "/var/run/nri"),
    ):
        (RUN / source).mkdir(parents=True, exist_ok=True)
        Path(place).mkdir(parents=True, exist_ok=True)
        run(["mount", "--bind", RUN / source, place])
    # The kubelet wants these settings of the machine's kernel: it is shown files that have them, and changes nothing.
    for name, value in (
        ("vm/overcommit_memory", 1),
        ("vm/panic_on_oom", 0),
        ("kernel/panic", 10),
        ("kernel/panic_on_oops", 1),
        ("kernel/keys/root_maxkeys", 1_000_000),
        ("kernel/keys/root_maxbytes", 25_000_000),
    ):
        shown = CONFIG / f"sysctl-{name.replace('/', '-')}"
        shown.write_text(f"{value}\n")
        run(["mount", "--bind", shown, f"/proc/sys/{name}"])
    # So that a pull fails at once.
    run(["mount", "--bind", CONFIG / "resolv.conf", "/etc/resolv.conf"])
    # Of this network namespace only.
    for name in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        try:
            Path("/proc/sys", name).write_text("1")
        except OSError as error:
            print(f"{name}: {error}", flush=True)


def _daemons() -> dict[str, Words]:
    etc = CONFIG
    return {
        "etcd": [
            BIN / "etcd",
            *("--data-dir", RUN / "etcd"),
            *("--listen-client-urls", "http://127.0.0.1:2379"),
            *("--advertise-client-urls", "http://127.0.0.1:2379"),
            *("--listen-peer-urls", "http://127.0.0.1:2380"),
            *("--unsafe-no-fsync", "--log-level", "warn"),
        ],
        "containerd": [CONTAINERD / "containerd", "--config", etc / "containerd.toml"],
        "kube-apiserver": [
            BIN / "kube-apiserver",
            *("--etcd-servers", "http://127.0.0.1:2379"),
            *("--bind-address", "0.0.0.0", "--secure-port", "6443", "--advertise-address", NODE_IP),
            *("--tls-cert-file", etc / "apiserver.crt", "--tls-private-key-file", etc / "apiserver.key"),
            *("--client-ca-file", etc / "ca.crt"),
            *("--kubelet-client-certificate", etc / "kubelet-client.crt"),
            *("--kubelet-client-key", etc / "kubelet-client.key"),
            *("--kubelet-preferred-address-types", "InternalIP"),
            *("--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction"),
            *("--service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
            *("--service-account-key-file", etc / "sa.pub", "--service-account-signing-key-file", etc / "sa.key"),
            *("--requestheader-client-ca-file", etc / "ca.crt", "--requestheader-allowed-names", "front-proxy"),
            *("--requestheader-username-headers", "X-Remote-User"),
            *("--requestheader-group-headers", "X-Remote-Group"),
            *("--requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            *("--proxy-client-cert-file", etc / "front-proxy.crt"),
            *("--proxy-client-key-file", etc / "front-proxy.key"),
            *("--service-cluster-ip-range", SERVICE_CIDR, "--allow-privileged=true"),
        ],
        "kube-controller-manager": [
            BIN / "kube-controller-manager",
            *("--kubeconfig", etc / "controllers.kubeconfig", "--use-service-account-credentials=true"),
            *("--service-account-private-key-file", etc / "sa.key", "--root-ca-file", etc / "ca.crt"),
            *("--cluster-signing-cert-file", etc / "ca.crt", "--cluster-signing-key-file", etc / "ca.key"),
            *("--leader-elect=false", "--bind-address", "127.0.0.1"),
        ],
        "kube-scheduler": [
            BIN / "kube-scheduler",
            *("--kubeconfig", etc / "scheduler.kubeconfig", "--leader-elect=false", "--bind-address", "127.0.0.1"),
        ],
        "kubelet": [
            BIN / "kubelet",
            *("--config", etc / "kubelet.yaml", "--kubeconfig", etc / "kubelet.kubeconfig"),
            *("--hostname-override", NODE, "--node-ip", NODE_IP),
        ],
        "kube-proxy": [BIN / "kube-proxy", "--config", etc / "kube-proxy.yaml", "--hostname-override", NODE],
    }


# --- down --------------------------------------------------------------------------------------------------------


def restart(daemon: str) -> None:
    """By its number in the node's own pid namespace, which the machine does not know."""
    inside = ["nsenter", f"--target={_first()}", "--pid", "--mount"]
    quietly([*inside, "kill", "-9", (RUN / f"{daemon}.pid").read_text()])


def kill(container: str) -> None:
    """Without a word to it, as the kernel does when memory runs out."""
    quietly(ctr("tasks", "kill", "--signal=SIGKILL", container.removeprefix("containerd://")))


def _first() -> int:
    """The node's first process, as this machine numbers it: the child of what was started."""
    outer = PID.read_text()
    return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])


def down(keep: bool) -> None:
    if is_up():
        # Its pid namespace dies with it, and so does every daemon and every pod.
        os.kill(int(PID.read_text()), signal.SIGKILL)
    if not _waited(lambda: not _mounted()):
        raise SystemExit(f"something still uses {RUN}: it is left alone")
    run(["ip", "netns", "del", NAMESPACE], check=False, capture_output=True)
    run(["ip", "link", "del", LINK], check=False, capture_output=True)
    for group in (*Path("/sys/fs/cgroup").glob("*/kubepods"), *Path("/sys/fs/cgroup").glob("*/k8s.io")):
        run(["find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", ";"], check=False, capture_output=True)
    PID.unlink(missing_ok=True)
    if not keep:
        run(["rm", "-rf", RUN])


def _mounted() -> bool:
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            if f"{RUN}/" in mounts.read_text():
                return True
        except OSError:
            continue
    return False


def _waited(done: Callable[[], bool], limit: float = 30) -> bool:
    deadline = time.monotonic() + limit
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description="A whole Kubernetes node on this machine")
    parts = parser.add_subparsers(dest="what", required=True)
    starting = parts.add_parser("up")
    starting.add_argument("--image", type=Path, action="append", default=[], metavar="ARCHIVE")
    starting.add_argument("--fresh", action="store_true", help="what a node before has kept is forgotten")
    ending = parts.add_parser("down")
    ending.add_argument("--keep", action="store_true", help="etcd, images and volumes stay")
    importing = parts.add_parser("import")
    importing.add_argument("archives", type=Path, nargs="+")
    parts.add_parser("restart").add_argument("daemon")
    parts.add_parser("kill").add_argument("container")
    parts.add_parser("kubeconfig")
    parts.add_parser("can")
    parts.add_parser("init", help="of the node itself")
    options = parser.parse_args()
    if options.what == "kubeconfig":
        print(KUBECONFIG)
        return
    if os.geteuid() != 0:
        raise SystemExit("only root can do this")
    match options.what:
        case "can":
            can()
        case "up":
            up(options.image, options.fresh)
        case "down":
            down(options.keep)
        case "import":
            import_images(options.archives)
        case "restart":
            restart(options.daemon)
        case "kill":
            kill(options.container)
        case "init":
            init()


if __name__ == "__main__":
    main()
