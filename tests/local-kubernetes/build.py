#!/usr/bin/env python3
"""Makes kube-apiserver, kube-controller-manager and etcd, once, and prints the folder that holds them. See README.md.

    python build.py

Package registries hold no such binaries, and Debian packages no kube-apiserver. But Debian's *source* package of
Kubernetes has all that it is made of, and Debian has the Go to build it and etcd. apt gets them into private folders:
nothing is installed, nothing on the machine changes, and root is not needed.

Exit codes: 0 with the folder on stdout; 3 when it can't be done on this machine, with the reason on stderr in one
line; 1 when it should have worked and did not.
"""

import contextlib
import fcntl
import os
import pathlib
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

SUITE = "bookworm"
KUBERNETES = "1.20.5+really1.20.2-1.1+deb12u1"
VERSION = "v1.20.2"
# Raise it with any change to how the binaries are made: older ones in a cache are then not taken for these.
RECIPE = 1

BUILT = ("kube-apiserver", "kube-controller-manager")
BINARIES = (*BUILT, "etcd")

# What the build needs beside make and a shell. Unpacked, not installed.
PACKAGES = (
    "etcd-server", "golang-1.19-go", "golang-1.19-src", "golang-github-modern-go-reflect2-dev",
    "jq", "libjq1", "libonig5", "rsync", "libpopt0",
)
COMMANDS = ("apt-get", "dpkg-deb", "make", "bash", "tar")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

# While it is made it takes 2.8 GB; the binaries themselves are 137 MB.
GIGABYTES = 4
# More at once would be quicker on large machines, and need a gigabyte of memory for each.
PARALLEL = 2
# Seconds between lines that say it goes on.
EVERY = 30
LOG_TAIL = 25

CANNOT = 3


class Cannot(Exception):
    """It can't be done on this machine; the text says why, in one line."""


class Failed(Exception):
    """A command failed that should not have."""


def main():
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda number, _: sys.exit(128 + number))
    began = time.monotonic()
    try:
        folder = cache() / f"kubernetes-{KUBERNETES}-{RECIPE}"
        if not is_complete(folder):
            make_once(folder)
    except Cannot as reason:
        print(f"build: {reason}", file=sys.stderr)
        return CANNOT
    except Failed as reason:
        print(f"build: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    if used.ru_utime > 1:
        say(f"done in {time.monotonic() - began:.0f} s ({used.ru_utime + used.ru_stime:.0f} s of CPU)")
    print(folder)
    return 0


def say(text):
    print(f"build: {text}", file=sys.stderr, flush=True)


def cache():
    """Outside the clone, so that every clone and worktree of this user shares it."""
    chosen = os.environ.get("PODGRANT_CACHE")
    if chosen:
        return pathlib.Path(chosen).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return pathlib.Path(home, "podgrant").absolute()


def is_complete(folder):
    return all((folder / name).is_file() for name in BINARIES)


def make_once(folder):
    """Makes `folder`, or waits for whoever is at it already."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open(f"{folder}.lock", "w")
    except OSError as error:
        raise Cannot(f"can't write to the cache {folder.parent}: {error.strerror}; set PODGRANT_CACHE to a folder "
                     "that can be written to") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build of the same is under way: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_complete(folder):
            return
        check_machine(folder.parent)
        # What a build left that was killed. Nobody is in there: its commands would still hold the lock.
        for left in folder.parent.glob(f"{folder.name}.making-*"):
            shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        # A sibling: only within a file system is a rename atomic.
        work = pathlib.Path(tempfile.mkdtemp(prefix=f"{folder.name}.making-", dir=folder.parent))
        log = pathlib.Path(f"{folder}.log")
        try:
            Build(work, log, lock).make(work / "binaries")
            os.rename(work / "binaries", folder)
            log.unlink()
            say("tidying up, which takes a slow disk a minute")
        except OSError as error:
            raise Failed(f"{error}; the log is {log}") from error
        finally:
            # A folder may be read-only; Go likes that.
            shutil.rmtree(work, onerror=_force)


def _force(function, path, _):
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        function(path)


def check_machine(folder):
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise Cannot(f"only made on Linux on x86_64, and this is {platform.system()} on {platform.machine()}")
    missing = [name for name in COMMANDS if not shutil.which(name)]
    if missing:
        raise Cannot(f"needs {', '.join(missing)}, of Debian (or a system that has apt and Debian's archive keys)")
    if not os.path.exists(KEYRING):
        raise Cannot(f"needs Debian's archive keys in {KEYRING}: apt install debian-archive-keyring")
    free = shutil.disk_usage(folder).free / 1e9
    if free < GIGABYTES:
        raise Cannot(f"needs {GIGABYTES} GB in {folder} for a while, and {free:.1f} are free; PODGRANT_CACHE names "
                     "another folder")


class Build:
    """One build, all of it in the folder `work`."""

    def __init__(self, work, log, lock):
        self.work = work
        self.log = log
        self.lock = lock
        self.began = time.monotonic()
        self.tools = work / "tools"
        self.log.write_bytes(b"")

    def make(self, binaries):
        say(f"making Kubernetes {VERSION} from Debian's source package: once, some 10 minutes of CPU. Log: {self.log}")
        self.download()
        source = self.unpack()
        self.compile(source, binaries)
        shutil.copy(self.tools / "usr/bin/etcd", binaries)
        for name in BINARIES:
            # A binary that does not run on this machine's libc had better be found out now.
            self.run([str(binaries / name), "--version"], f"trying {name}")

    def download(self):
        self.progress("getting the sources, Go and etcd from Debian's archive")
        for archive in debian_archives():
            options = self.apt_options(archive)
            if self.apt([*options, "update"]) is None:
                break
        else:
            raise Cannot(f"none of this machine's apt sources gives Debian's {SUITE}: is there a network? "
                         f"The log is {self.log}")
        downloads = self.work / "downloads"
        downloads.mkdir()
        for command in (["source", "--download-only", f"kubernetes={KUBERNETES}"], ["download", *PACKAGES]):
            reason = self.apt([*options, *command], cwd=downloads)
            if reason:
                raise Cannot(f"apt-get {command[0]}: {reason}; the log is {self.log}")

    def apt_options(self, archive):
        """An apt that has one source and keeps all that it writes in the work folder."""
        private = self.work / "apt"
        shutil.rmtree(private, ignore_errors=True)
        for folder in ("sources", "state/lists/partial", "cache/archives/partial"):
            (private / folder).mkdir(parents=True)
        (private / "sources/debian.sources").write_text(
            f"Types: deb deb-src\nURIs: {archive}\nSuites: {SUITE}\nComponents: main\nSigned-By: {KEYRING}\n"
        )
        configuration = private / "apt.conf"
        # Read after the machine's own, which stays: it may hold a proxy. Its hooks would change the machine.
        configuration.write_text(f"""\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Update::Error-Mode "any";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{private}/sources";
Dir::State "{private}/state";
Dir::State::status "/dev/null";
Dir::Cache "{private}/cache";
""")
        return ["-c", str(configuration)]

    def apt(self, arguments, cwd=None):
        """None, or in one line why it failed."""
        start = self.log.stat().st_size
        try:
            self.run(["apt-get", "-q", *arguments], "apt-get", cwd=cwd, env={**os.environ, "LC_ALL": "C"})
        except Failed:
            said = self.log.read_bytes()[start:].decode(errors="replace").splitlines()
            return next((line for line in reversed(said) if line.startswith("E:")), "failed")
        return None

    def unpack(self):
        self.progress("unpacking")
        for package in sorted(self.work.glob("downloads/*.deb")):
            self.run(["dpkg-deb", "-x", str(package), str(self.tools)], "unpacking")
        source = self.work / "kubernetes"
        source.mkdir()
        # Debian's own patches are left out: they touch nothing but kubectl.
        [archive] = self.work.glob("downloads/kubernetes_*.orig.tar.*")
        self.run(["tar", "-xf", str(archive), "-C", str(source), "--strip-components=1"], "unpacking")
        # The reflect2 1.0.1 in there crashes at the start of a program built with Go 1.18 or later; Debian has 1.0.2.
        vendored = source / "vendor/github.com/modern-go/reflect2"
        shutil.rmtree(vendored)
        shutil.copytree(self.tools / "usr/share/gocode/src/github.com/modern-go/reflect2", vendored)
        return source

    def compile(self, source, binaries):
        # Kubernetes of that age builds in a GOPATH only, and Go finds out where it is by the name it was called with.
        gopath = source / ".go"
        inside = gopath / "src/k8s.io/kubernetes"
        inside.parent.mkdir(parents=True)
        inside.symlink_to("../../..")
        goroot = self.tools / "usr/lib/go-1.19"
        env = {
            "PATH": f"{goroot}/bin:{self.tools}/usr/bin:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{self.tools}/usr/lib/x86_64-linux-gnu",
            "HOME": str(self.work),
            "TMPDIR": str(self.work),
            "LC_ALL": "C",
            "PWD": str(inside),
            "GOROOT": str(goroot),
            "GOPATH": str(gopath),
            "GOCACHE": str(self.work / "go-cache"),
            "GOENV": "off",
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "GOFLAGS": f"-p={PARALLEL}",
            "CGO_ENABLED": "0",
            "KUBE_GIT_VERSION": VERSION,
        }
        self.progress("generating code")
        self.run(["make", "generated_files"], "generating code", cwd=inside, env=env)
        self.progress("compiling, which takes most of the time")
        versions = " ".join(
            f"-X k8s.io/kubernetes/vendor/k8s.io/{package}/version.gitVersion={VERSION}"
            for package in ("component-base", "client-go/pkg")
        )
        self.run(
            # Without the clouds' providers, which nothing here needs: a good third less to compile.
            ["go", "build", "-tags", "providerless", "-trimpath", "-ldflags", f"-s -w {versions}",
             "-o", f"{binaries}/", *(f"./cmd/{name}" for name in BUILT)],
            "compiling", cwd=inside, env={**env, "GO111MODULE": "off"},
        )

    def progress(self, text):
        say(f"{time.monotonic() - self.began:4.0f} s  {text}")

    def run(self, command, what, cwd=None, env=None):
        """Runs a command with all that it says in the log."""
        with open(self.log, "ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                # Whatever it starts holds the lock too, and can be ended together with it.
                pass_fds=(self.lock.fileno(),), start_new_session=True,
            )
        try:
            while True:
                try:
                    code = process.wait(EVERY)
                    break
                except subprocess.TimeoutExpired:
                    self.progress(f"{what} …")
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        if code:
            tail = self.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
            raise Failed("\n".join([f"{what} failed: {command[0]} ended with {code}; the log's end:", *tail,
                                    f"The log is {self.log}"]))


def debian_archives():
    """Where this machine gets Debian from, as its own apt sources say. None is named here: a mirror may be the only one
    that can be reached. Others than Debian's are among them; they lack Debian's signature, and so are passed over."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Identifier: Packages", "Component: main"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
    ).stdout.split("\n")
    found = [line.split(" ", 1) for line in listed if " " in line]
    found.sort(key=lambda target: target[0] != SUITE)
    return list(dict.fromkeys(archive for release, archive in found if not release.endswith(("-security", "/updates"))))


if __name__ == "__main__":
    sys.exit(main())
