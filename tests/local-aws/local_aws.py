#!/usr/bin/env python3
"""Runs the local AWS: ministack, and what it lacks for podgrant. See README.md.

    GATEWAY_PORT=4566 TMPDIR=/some/dir python local_aws.py

Serves on loopback only, unless BIND_HOST says otherwise. Stops on SIGTERM.
"""

import importlib.metadata
import os
import signal
import sys
import tempfile
import threading

MINISTACK_VERSION = "1.5.33"
DEFAULT_PORT = "4566"

# What may pass from the caller's environment: a function's process gets ministack's environment whole, and must see
# neither a person's credentials nor proxies nor settings of the AWS tools.
_KEPT = {"AUTH", "BIND_HOST", "GATEWAY_PORT", "HOME", "LANG", "LC_ALL", "LOG_LEVEL", "PATH", "TMPDIR", "TZ"}
_KEPT_PREFIXES = ("LAMBDA_", "MINISTACK_")


def clean_environment(environment, port):
    """The environment that ministack, and with it every function, shall have."""
    kept = {
        name: value for name, value in environment.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    defaults = {
        "BIND_HOST": "127.0.0.1",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_HOST": "127.0.0.1",
        "MINISTACK_REGION": "eu-west-1",
    }
    fixed = {
        "GATEWAY_PORT": port,
        # Without it a function's SDK would call the real AWS.
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        # And nothing may be looked up elsewhere: no instance metadata, no profile of the person who runs this.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        # Listeners that podgrant has no use for; the first would open port 8883.
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    return {**defaults, **kept, **fixed}


def check_ministack():
    """Stops with a clear word when ministack is not the version that the gaps were written for."""
    try:
        version = importlib.metadata.version("ministack")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("local_aws: ministack is not installed: pip install -r requirements.txt")
    if version != MINISTACK_VERSION:
        sys.exit(f"local_aws: needs ministack {MINISTACK_VERSION}, found {version}: pip install -r requirements.txt")
    from gaps import required

    missing = required.missing_names()
    if missing:
        sys.exit(f"local_aws: this ministack {version} lacks what the gaps lean on: {', '.join(missing)}")


def exit_with_stdin():
    """Ends this process, by its own orderly way, when whoever started it closes the pipe or dies."""
    def watch():
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name="exit-with-stdin").start()


def main():
    # Asked before the environment is cleaned.
    if os.environ.get("PODGRANT_EXIT_WITH_STDIN"):
        exit_with_stdin()
    # ministack leaves its files behind, every function's code among them.
    with tempfile.TemporaryDirectory(prefix="run-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        serve()


def serve():
    port = os.environ.get("GATEWAY_PORT", DEFAULT_PORT)
    environment = clean_environment(os.environ, port)
    os.environ.clear()
    os.environ.update(environment)
    # From here on ministack may be imported: it reads its settings while it is imported.
    check_ministack()
    from ministack import app

    from gaps import gateway

    # Read by now, and a name that functions use for their own logs.
    del os.environ["LOG_LEVEL"]
    gateway.install()
    app.main()


if __name__ == "__main__":
    main()
