"""Holds the Terraform module to the templates, and lets terraform itself judge it where it is at hand."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_templates import ROOT, of_type, template

MODULES = {"terraform": "template.yaml", "terraform/forward-events": "forward-events.yaml"}
# What CloudFormation knows by itself: the stack's name, and where `package` put the functions.
ONLY_TERRAFORMS = {"terraform": {"name", "packages"}, "terraform/forward-events": {"name"}}
# Folders that hold a mirror of the AWS provider, for machines that don't reach the registry.
MIRRORS = [os.environ.get("PODGRANT_TEST_TERRAFORM_PLUGINS", ""), "/opt/tf-plugins"]


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def variables(module):
    """Name and default of each variable; None where it has none."""
    text = (ROOT / "infra" / module / "variables.tf").read_text()
    found = {}
    for name, body in re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.M | re.S):
        default = re.search(r"^  default +=\s*(.*)$", body, re.M)
        # HCL's numbers and plain strings are YAML's.
        found[name] = yaml.safe_load(default.group(1)) if default else None
    return found


class Variables(unittest.TestCase):
    def test_variables_are_the_templates_parameters_with_the_same_defaults(self):
        for module, name in MODULES.items():
            expected = {snake(key): value.get("Default") for key, value in template(name)["Parameters"].items()}
            got = variables(module)
            self.assertLessEqual(ONLY_TERRAFORMS[module], got.keys())
            self.assertEqual({key: value for key, value in got.items() if key not in ONLY_TERRAFORMS[module]}, expected, module)

    def test_every_variable_is_used(self):
        for module in MODULES:
            text = (ROOT / "infra" / module / "main.tf").read_text()
            for name in variables(module):
                self.assertRegex(text, rf"\bvar\.{name}\b", module)

    def test_functions_get_the_variables_that_the_template_gives_them_from_the_same_parameters(self):
        document = template("template.yaml")
        expected = document["Globals"]["Function"]["Environment"]["Variables"]
        text = (ROOT / "infra/terraform/main.tf").read_text()
        got = dict(re.findall(r"^      (PODGRANT_\w+) += (.*)$", text, re.M))
        own = {
            name
            for function in of_type(document, "AWS::Serverless::Function").values()
            for name in function["Environment"]["Variables"]
        }
        self.assertEqual(got.keys(), expected.keys() | own)
        for name, value in expected.items():
            if value.keys() == {"Ref"} and value["Ref"] in document["Parameters"]:
                self.assertEqual(got[name], f"var.{snake(value['Ref'])}", name)


@functools.cache
def unusable():
    """Why terraform can't be asked; None where it can."""
    if not shutil.which("terraform"):
        return "terraform is not at hand: the module was not validated"
    return None


@unittest.skipIf(unusable(), unusable())
class Terraform(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # It writes beside the module, which need not be in the repository.
        scratch = tempfile.TemporaryDirectory(prefix="podgrant-terraform-")
        cls.addClassCleanup(scratch.cleanup)
        cls.root = pathlib.Path(scratch.name)
        unwanted = shutil.ignore_patterns(".terraform*", "__pycache__")
        shutil.copytree(ROOT / "infra", cls.root / "infra", ignore=unwanted)
        shutil.copytree(ROOT / "events/patterns", cls.root / "events/patterns")
        # An empty configuration: the machine's own is nobody's business here.
        (cls.root / "terraformrc").touch()
        cls.environment = {
            **os.environ, "TF_CLI_CONFIG_FILE": str(cls.root / "terraformrc"), "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1",
        }
        mirrors = [f"-plugin-dir={folder}" for folder in MIRRORS if folder and pathlib.Path(folder).is_dir()][:1]
        for module in MODULES:
            ended = cls.run_in(module, "init", "-backend=false", "-input=false", *mirrors)
            if ended.returncode != 0:
                raise unittest.SkipTest(f"the AWS provider can't be had, so the Terraform module was not validated: {ended.stderr[-400:]}")

    @classmethod
    def run_in(cls, module, *command):
        return subprocess.run(
            ["terraform", command[0], "-no-color", *command[1:]], cwd=cls.root / "infra" / module, env=cls.environment,
            capture_output=True, text=True, timeout=300,
        )

    def succeeds(self, module, *command):
        ended = self.run_in(module, *command)
        self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)

    def test_it_is_formatted(self):
        self.succeeds("terraform", "fmt", "-check", "-diff", "-recursive")

    def test_it_is_valid(self):
        for module in MODULES:
            with self.subTest(module=module):
                self.succeeds(module, "validate")

    def test_it_makes_what_its_variables_say(self):
        version = re.search(r"v1\.(\d+)", self.run_in("terraform", "version").stdout)
        if not version or int(version.group(1)) < 7:
            self.skipTest("terraform before 1.7 can mock no provider")
        self.succeeds("terraform", "test")


if __name__ == "__main__":
    unittest.main()
