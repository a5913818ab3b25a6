#!/usr/bin/env python3
"""Runs the local Kubernetes: a real API server that lets people in as EKS does. See README.md.

    python local_kubernetes.py --bin "$(python build.py)" --state /some/dir/state.json

On loopback only, on free ports. The state file appears when all is ready and says where. Stops on SIGTERM.
"""

import argparse
import base64
import contextlib
import ctypes
import json
import logging
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

ETCD, API_SERVER, CONTROLLERS = COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager")
READY_SECONDS = 60
# clusterrole-aggregation fills the role `view`; garbagecollector takes a DaemonSet's pods along.
RUN_CONTROLLERS = (
    "clusterrole-aggregation", "daemonset", "deployment", "garbagecollector", "namespace", "replicaset",
    "root-ca-cert-publisher", "serviceaccount", "serviceaccount-token",
)
LOG_TAIL = 15

_libc = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Trouble(Exception):
    """It does not run; the text names the component, its log, and what to do where that is known."""


class Ended(Exception):
    """Somebody asked for the end."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="folder of the binaries, as build.py prints it")
    parser.add_argument("--state", required=True, type=pathlib.Path, help="file to be written when all is ready")
    arguments = parser.parse_args()

    # Threads that only set a flag, no exceptions out of nowhere: nothing can break into the cleaning up.
    ending = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: ending.set())
    if os.environ.get("PODGRANT_EXIT_WITH_STDIN"):
        end_with_stdin(ending)
    drop_environment()

    state = arguments.state.absolute()
    try:
        check(arguments.bin, state)
        # Imported now: they need botocore, whose absence `check` has a word for.
        import webhook
        from kube_api import Bindings

        cluster = Cluster(arguments.bin.absolute(), state, ending, webhook, Bindings())
    except Trouble as trouble:
        sys.exit(f"local_kubernetes: {trouble}")
    try:
        cluster.start()
        cluster.wait_for_the_end()
    except Ended:
        return 0
    except Trouble as trouble:
        sys.exit(f"local_kubernetes: {trouble}")
    finally:
        cluster.stop()


def end_with_stdin(ending):
    """Ends this process, by its own orderly way, when whoever started it closes the pipe or dies."""
    def watch():
        while os.read(0, 1024):
            pass
        ending.set()

    threading.Thread(target=watch, daemon=True, name="end-with-stdin").start()


def drop_environment():
    """Nothing here may see a person's credentials, settings of the AWS tools, or a proxy."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "KUBE")) or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update({
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    })


def check(binaries, state):
    """What can be found missing before anything is started."""
    missing = [name for name in COMPONENTS if not os.access(binaries / name, os.X_OK)]
    if missing:
        raise Trouble(f"no {', '.join(missing)} in {binaries}: build.py makes them, and prints their folder for --bin")
    try:
        import boto3  # noqa: F401
    except ImportError:
        raise Trouble(f"boto3 is not installed for {sys.executable}: run this with the local AWS's virtual "
                      "environment, made by pip install -r ../local-aws/requirements.txt") from None
    if not state.parent.is_dir():
        raise Trouble(f"no folder {state.parent} for the state file")


class Cluster:
    """The processes, their files, and the webhook."""

    def __init__(self, binaries, state, ending, webhook, bindings):
        self._began = time.monotonic()
        self._binaries = binaries
        self._state = state
        self._kubeconfig = state.with_name("kubeconfig")
        self._ending = ending
        self._bindings = bindings
        self._processes = {}
        self._token = secrets.token_urlsafe(32)
        # An older one would be believed.
        state.unlink(missing_ok=True)
        logging.basicConfig(
            filename=self._log("token-review"), filemode="w", level=logging.INFO, format="%(asctime)s %(message)s",
        )
        for noisy in ("boto3", "botocore", "urllib3"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._webhook = webhook.Server(webhook.Reviewer(bindings))
        self._authenticate = self._webhook.url + webhook.AUTHENTICATE
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="local-kubernetes-"))

    def start(self):
        etcd, peer, port = free_ports(3)
        self._start_etcd(etcd, peer)
        self._start_api_server(port, etcd)
        authority = self._wait(self._authority, API_SERVER, "to make its certificate")
        server = f"https://127.0.0.1:{port}"

        from kube_api import Api

        api = self._bindings.api = Api(server, authority, self._token)
        self._wait(lambda: api.call("GET", "/readyz") == "ok", API_SERVER, "to be ready")
        write(self._kubeconfig, json.dumps(kubeconfig(server, authority, self._token), indent=1))
        self._start_controllers()
        # From here on no process is started, and so threads can't get in a fork's way.
        self._webhook.serve()
        self._wait(
            lambda: api.call("GET", "/api/v1/namespaces/kube-system/serviceaccounts/default"), CONTROLLERS, "to work",
        )
        # What reads the agent's DaemonSet, made beforehand; others are made when a review wants them.
        for namespace in (None, "kube-system"):
            self._wait(
                lambda scope=namespace: self._bindings.group("AmazonEKSViewPolicy", scope, seconds=1),
                CONTROLLERS, "to fill the cluster role view",
            )
        write(self._state, json.dumps({
            "server": server,
            "certificateAuthority": authority,
            "adminToken": self._token,
            "control": self._webhook.url,
            "kubeconfig": str(self._kubeconfig),
        }, indent=1))
        print(f"local_kubernetes: ready at {server} after {time.monotonic() - self._began:.1f} s", file=sys.stderr,
              flush=True)

    def wait_for_the_end(self):
        while not self._ending.wait(0.5):
            self._check_processes()

    def stop(self):
        """Hard: nothing of what they hold is to be kept."""
        self._state.unlink(missing_ok=True)
        self._kubeconfig.unlink(missing_ok=True)
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start_etcd(self, port, peer):
        url = f"http://127.0.0.1:{port}"
        peer_url = f"http://127.0.0.1:{peer}"
        self._start(ETCD, {
            "data-dir": self._folder / "etcd",
            "listen-client-urls": url,
            "advertise-client-urls": url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": f"default={peer_url}",
        })
        self._wait(lambda: can_connect(port), ETCD, "to listen")

    def _start_api_server(self, port, etcd):
        tokens = self._file("tokens.csv", f"{self._token},admin,admin,system:masters\n")
        webhook = self._file("webhook.json", json.dumps(kubeconfig(self._authenticate)))
        key = self._folder / "apiserver.key"
        self._start(API_SERVER, {
            "etcd-servers": f"http://127.0.0.1:{etcd}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": port,
            # It makes its own authority, certificate and key in there, before it reads the keys below.
            "cert-dir": self._folder,
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-key-file": key,
            "service-account-signing-key-file": key,
            "service-cluster-ip-range": "10.100.0.0/16",
            "token-auth-file": tokens,
            "authentication-token-webhook-config-file": webhook,
            "authentication-token-webhook-version": "v1",
            "authentication-token-webhook-cache-ttl": "0s",
            "authorization-mode": "RBAC",
            # Pods are to be made at once, not when their service account's token is there.
            "disable-admission-plugins": "ServiceAccount",
            "endpoint-reconciler-type": "none",
            "allow-privileged": "true",
        })

    def _start_controllers(self):
        self._start(CONTROLLERS, {
            "kubeconfig": self._kubeconfig,
            "port": 0,
            "secure-port": 0,
            "leader-elect": "false",
            "controllers": ",".join(RUN_CONTROLLERS),
            "service-account-private-key-file": self._folder / "apiserver.key",
            "root-ca-file": self._folder / "authority.crt",
        })

    def _authority(self):
        """The API server's authority, in base64. It is the second in the file that the server makes."""
        text = (self._folder / "apiserver.crt").read_text()
        found = re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", text, re.DOTALL)
        if len(found) != 2:
            return None
        self._file("authority.crt", found[1])
        return base64.b64encode(found[1].encode()).decode()

    def _start(self, name, flags):
        if self._ending.is_set():
            raise Ended
        parent = os.getpid()

        def end_with_parent():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        with open(self._log(name), "wb") as log:
            self._processes[name] = subprocess.Popen(
                [self._binaries / name, *(f"--{flag}={value}" for flag, value in flags.items())],
                cwd=self._folder, env={"PATH": os.environ.get("PATH", ""), "HOME": str(self._folder)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent,
                # Ctrl-C is for this process, which ends them.
                start_new_session=True,
            )

    def _wait(self, condition, name, what):
        """The first true value of `condition()`; its errors mean "not yet"."""
        end = self._began + READY_SECONDS
        while True:
            self._check_processes()
            why = "no reason known"
            try:
                value = condition()
                if value:
                    return value
            except Exception as error:  # whatever a server that is coming up makes of a call
                why = f"{type(error).__name__}: {error}"
            if time.monotonic() > end:
                raise Trouble(f"waited {READY_SECONDS} s for {name} {what} ({why}); {self._said(name)}")
            if self._ending.wait(0.05):
                raise Ended

    def _check_processes(self):
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise Trouble(f"{name} ended with {process.returncode}; {self._said(name)}")

    def _said(self, name):
        log = self._log(name)
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        return "\n".join([f"its log {log} ends with:", *lines])

    def _log(self, name):
        return self._state.with_name(f"{name}.log")

    def _file(self, name, text):
        path = self._folder / name
        path.write_text(text)
        return path


def kubeconfig(server, authority=None, token=None):
    """What kubectl, the controller manager and the API server's webhook read."""
    cluster = {"server": server}
    if authority:
        cluster["certificate-authority-data"] = authority
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
        "current-context": "local",
    }


def free_ports(count):
    with contextlib.ExitStack() as stack:
        # All held at once, or one could come up twice.
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def can_connect(port):
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def write(path, text):
    """Whole or not at all, and for this user only: it holds a token."""
    part = path.with_name(f"{path.name}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    os.replace(part, path)


if __name__ == "__main__":
    sys.exit(main())
