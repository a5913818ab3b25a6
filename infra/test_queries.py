"""Holds the queries to the log: every field and every word that they look for must be one that the code writes."""

import json
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).parent.parent
QUERIES = sorted((ROOT / "infra/queries").iterdir())
# Where lines are written that people look for.
WRITERS = [ROOT / "crates/podgrant-runtime/src" / name for name in ("flow.rs", "batch.rs")]
# tracing's own, beside the message.
OWN = {"message", "level"}
KEYWORDS = {
    "fields", "filter", "stats", "sort", "limit", "display", "parse", "dedup", "and", "or", "not", "in", "like", "as", "by", "asc",
    "desc", "ispresent", "count", "avg", "pct", "max", "min", "sum", "strlen", "strcontains",
}


def events():
    """The arguments of each call of tracing's macros, as text."""
    for path in WRITERS:
        text = path.read_text()
        for start in re.finditer(r"tracing::(?:info|warn|error)!\(", text):
            depth, end = 1, start.end()
            while depth:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
            yield text[start.end():end - 1]


def logged():
    """Names of the fields, and the messages."""
    names, messages = set(), set()
    for event in events():
        messages.update(re.findall(r'"([^"]*)"\s*$', event.strip().rstrip(",")))
        depth, argument = 0, ""
        arguments = []
        for character in event:
            depth += {"(": 1, ")": -1, "|": 0}.get(character, 0)
            if character == "," and depth == 0:
                arguments.append(argument)
                argument = ""
            else:
                argument += character
        for argument in [*arguments, argument]:
            name = re.match(r"\s*[%?]?(\w+)\s*(=|$)", argument)
            if name:
                names.add(name.group(1))
    return names, messages


def query(path):
    return "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))


class Queries(unittest.TestCase):
    def test_the_reading_of_the_code_finds_what_there_is(self):
        names, messages = logged()
        self.assertLessEqual({"change", "outcome", "asked_by", "record", "kind", "grant", "duration_ms", "message_id"}, names)
        self.assertLessEqual({"change", "finding", "message", "role deletion begins"}, messages)

    def test_lines_are_flat(self):
        """Otherwise `change` would be `fields.change` in CloudWatch."""
        self.assertIn(".flatten_event(true)", (ROOT / "crates/podgrant-runtime/src/lib.rs").read_text())

    def test_every_field_is_one_that_the_code_writes(self):
        names, _ = logged()
        for path in QUERIES:
            text = query(path)
            made = set(re.findall(r"\bas (\w+)", text))
            text = re.sub(r'"[^"]*"|/[^/]*/|@\w+', "", text)
            for word in re.findall(r"[A-Za-z_]\w*", text):
                self.assertIn(word, names | OWN | KEYWORDS | made, path.name)

    def test_every_message_is_one_that_the_code_writes(self):
        _, messages = logged()
        for path in QUERIES:
            for message in re.findall(r'\bmessage = "([^"]*)"', query(path)):
                self.assertIn(message, messages, path.name)

    def test_every_kind_is_one_that_there_is(self):
        text = (ROOT / "crates/podgrant-core/src/outcome.rs").read_text()
        kinds = dict(re.findall(r'Self::(\w+) => "([^"]+)"', text))
        for path in QUERIES:
            for listed in re.findall(r"\bkind in (\[.*?\])", query(path)):
                for kind in json.loads(listed):
                    self.assertIn(kind, kinds.values(), path.name)

    def test_all_refusals_are_refused(self):
        text = (ROOT / "crates/podgrant-core/src/outcome.rs").read_text()
        kinds = dict(re.findall(r'Self::(\w+) => "([^"]+)"', text))
        body = re.search(r"fn is_refusal.*?\n    }", text, re.S).group(0)
        expected = {kinds[name] for name in re.findall(r"Self::(\w+)", body)}
        listed = json.loads(re.search(r"\bkind in (\[.*?\])", query(ROOT / "infra/queries/refused.logs-insights")).group(1))
        self.assertEqual(set(listed), expected)

    def test_every_outcome_is_one_that_there_is(self):
        changes = set(re.findall(r'=> \("([\w-]+)", ', (ROOT / "crates/podgrant-runtime/src/flow.rs").read_text()))
        body = re.search(r"enum Ending \{.*?\n\}", (ROOT / "crates/podgrant-runtime/src/report.rs").read_text(), re.S).group(0)
        endings = {re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower() for name in re.findall(r"^    (\w+),", body, re.M)}
        self.assertIn("done", changes & endings)
        for path in QUERIES:
            text = query(path)
            found = re.findall(r'\boutcome = "([^"]*)"', text)
            found += [word for listed in re.findall(r"\boutcome in (\[.*?\])", text) for word in json.loads(listed)]
            for outcome in found:
                self.assertIn(outcome, changes | endings, path.name)


if __name__ == "__main__":
    unittest.main()
