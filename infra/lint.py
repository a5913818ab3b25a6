"""Judges the templates with cfn-lint and templates and Terraform module with checkov: `python3 infra/lint.py`.

Makes an environment of its own under target/lint, pinned by requirements-lint.txt. Ends with 1 where either found something.
What is suppressed stands in place, with the reason.
"""

import os
import pathlib
import subprocess
import sys
import venv

INFRA = pathlib.Path(__file__).resolve().parent
ROOT = INFRA.parent
FOLDER = ROOT / "target/lint"
REQUIREMENTS = INFRA / "requirements-lint.txt"


def environment():
    """The folder with the linters' commands, made anew where the requirements are others than those it was made of."""
    commands, made_of = FOLDER / "venv/bin", FOLDER / "requirements-lint.txt"
    if not made_of.exists() or made_of.read_bytes() != REQUIREMENTS.read_bytes():
        print(f"Making the linters' environment in {FOLDER} …", file=sys.stderr)
        venv.create(FOLDER / "venv", clear=True, with_pip=True)
        subprocess.run(
            [commands / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", REQUIREMENTS], check=True,
        )
        made_of.write_bytes(REQUIREMENTS.read_bytes())
    return commands


def main():
    commands = environment()
    templates = sorted(path.name for path in INFRA.glob("*.yaml"))
    checkov = [commands / "checkov", "--compact", "--quiet", "--skip-download"]
    runs = [
        [commands / "cfn-lint", *templates],
        [*checkov, "--framework", "cloudformation", "--file", *templates],
        [*checkov, "--framework", "terraform", "--directory", "terraform"],
    ]
    # Nothing is asked of or told to anybody: these tools look up guidelines and versions where they may.
    variables = {"PATH": os.environ["PATH"], "HOME": str(FOLDER), "LOG_LEVEL": "ERROR"}
    failed = []
    for run in runs:
        print(f"{run[0].name} …", file=sys.stderr, flush=True)
        if subprocess.run(run, cwd=INFRA, env=variables).returncode != 0:
            failed.append(run[0].name)
    if failed:
        sys.exit(f"found something: {', '.join(failed)}")


if __name__ == "__main__":
    main()
