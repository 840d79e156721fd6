import contextlib
import copy
import io
import json
import re
import sys
import tempfile
import unittest
from pathlib import Path

import quality as command
from camelid_bench import models, quality
from camelid_bench.errors import BenchError

# As `camelid perplexity --json --against-backend reference` prints it, less what is not read.
RESULT = {
    "tokens": 3000, "scored_tokens": 2999, "token_perplexity": 20.05,
    "against": {"token_perplexity": 20.0, "ppl_ratio": {"value": 1.0025, "error": 0.0005},
                "kl": {"mean": 0.002, "error": 0.0001, "max": 0.3}, "same_top": {"value": 0.985, "error": 0.002}},
}


def worse(value):
    result = copy.deepcopy(RESULT)
    result["against"]["kl"]["mean"] = value
    return result


def results(rows):
    machine = {"cpu": "A", "family_model_stepping": "1/2/3", "cores": 2, "cache": "1 MB", "system": "Linux", "flags": ["avx2"]}
    settings = {"backend": "cpu", "against": "reference", "text": "alice-1.txt", "sha256": "ab", "context": 2048,
                "stride": 512, "threads": 2}
    return {"title": "A run", "date": "2026-01-02", "machine": machine, "versions": {"Camelid": "1"}, "settings": settings,
            "commands": ["python3 bench/quality.py run"], "rows": rows,
            "failed": [{"format": "f32", "error": "it broke\nmore"}]}


class Rows(unittest.TestCase):
    def test_a_format_is_held_to_its_class(self):
        for form, kind, fits in [("q4_k_m", "q8act", True), ("q8_0", "q8act", True), ("bf16", "bf16", True),
                                 ("f16", "f32", False), ("f32", "f32", False)]:
            made = quality.row(form, RESULT)
            self.assertEqual((made["class"], made["within"]), (kind, fits), form)
        rows = [quality.row("q4_0", worse(0.0101)), quality.row("q4_1", worse(0.01))]
        self.assertEqual(quality.beyond(rows), ["q4_0"])

    def test_f16_in_bf16_is_held_to_bf16(self):
        config = models.ROOT / "bench/f16-as-bf16.toml"
        paths = [Path("camelid"), "cpu", "reference", (), quality.TEXT, 2, 2048, 512]
        self.assertEqual(quality.Plan(*paths).f16(), "f32")
        self.assertEqual(quality.Plan(*paths, config).f16(), "bf16")
        self.assertIn("--config", quality.Plan(*paths, config).command("m.gguf"))
        self.assertEqual([quality.row(form, RESULT, "bf16")["class"] for form in ("f16", "f32", "q4_0")], ["bf16", "f32", "q8act"])

    def test_limits_are_those_of_the_suite(self):
        text = (models.ROOT / "conformance/src/tolerance.rs").read_text(encoding="utf-8")
        text = text[text.index("pub fn model_limits"):]
        found = {name.lower(): float(kl) for name, kl in
                 re.findall(r"MathClass::(\w+) => \([^,]+, [^,]+, ([0-9.e-]+)\)", text)}
        self.assertEqual({name: found[name] for name in quality.LIMITS}, quality.LIMITS)

    def test_every_format_has_a_file_and_the_text_is_there(self):
        self.assertLessEqual(set(models.FORMATS["smollm2-135m"]), set(models.QUALITY))
        self.assertGreater(len(quality.TEXT.read_text(encoding="utf-8")), 10_000)

    def test_numbers_that_are_none_are_refused(self):
        for wrong in (None, float("nan"), "0.1"):
            with self.subTest(wrong), self.assertRaises((TypeError, ValueError)):
                quality.row("q8_0", worse(wrong))


class Page(unittest.TestCase):
    def test_the_page_has_a_line_a_format_and_says_what_is_beyond(self):
        page = quality.page(results([quality.row("q8_0", RESULT), quality.row("f16", RESULT)]))
        self.assertIn("| Q8_0 | 20.0500 | 20.0000 | 1.00250 ± 0.00050 | 2.00e-03 ± 1e-04 | 3.00e-01 | 98.50% | `q8act` "
                      "| 1e-02 |", page)
        self.assertIn("`f32` | 1e-09, **exceeded** |", page)
        self.assertIn("Beyond its class: f16.", page)
        self.assertIn("3000 tokens, 2999 predicted", page)
        self.assertIn("- f32: it broke\n", page)

    def test_a_file_of_something_else_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.json"
            with self.assertRaisesRegex(BenchError, "cannot be read"):
                quality.load(path)
            for text in ("{", "[]", "{}", '{"rows": [{"kind": "decode"}]}'):
                path.write_text(text, encoding="utf-8")
                with self.assertRaisesRegex(BenchError, "no file of quality"):
                    quality.load(path)
            made = results([quality.row("q8_0", RESULT)])
            path.write_text(json.dumps(made), encoding="utf-8")
            self.assertEqual(quality.load(path), made)


class Running(unittest.TestCase):
    """`run` with a program that stands in for camelid."""

    def run_with(self, body, *words):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        folder = Path(folder.name)
        program = folder / "camelid"
        program.write_text(f"#!{sys.executable}\nimport json, sys\nif '--version' in sys.argv: sys.exit('camelid 0')\n{body}\n"
                           .replace("sys.exit('camelid 0')", "print('camelid 0'); sys.exit()"), encoding="utf-8")
        program.chmod(0o755)
        for form in models.QUALITY:
            models.path_of(folder, command.MODEL, form).write_bytes(b"")
        options = command.arguments().parse_args(
            ["run", "--camelid", str(program), "--models", str(folder), "--out", str(folder / "out"), *words])
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = options.run(options)
        path = next((folder / "out").glob("*-quality-cpu.json"))
        self.assertTrue(path.with_suffix(".md").is_file())
        return code, said.getvalue(), quality.load(path)

    def test_each_format_is_read_once_on_both_backends(self):
        body = ("for pair in (['--backend', 'cpu'], ['--against-backend', 'reference'], ['--context', '128']):\n"
                "    at = sys.argv.index(pair[0])\n"
                "    assert sys.argv[at:at + 2] == pair, sys.argv\n"
                f"print({json.dumps(json.dumps(RESULT))})")
        code, _, made = self.run_with(body, "--formats", "q8_0,q4_1", "--context", "128", "--stride", "64")
        self.assertEqual((code, [row["format"] for row in made["rows"]]), (0, ["q8_0", "q4_1"]))
        self.assertNotIn("/", made["commands"][1].split()[0])

    def test_what_is_beyond_its_class_or_fails_is_an_error(self):
        code, said, made = self.run_with(f"print({json.dumps(json.dumps(worse(0.5)))})", "--formats", "q8_0")
        self.assertEqual((code, len(made["rows"])), (1, 1))
        self.assertRegex(said, "the divergence of q8_0 is more.*\n  remedy: ")
        code, said, made = self.run_with("sys.exit('there is no backend cpu')", "--formats", "q8_0")
        self.assertEqual((code, made["rows"], len(made["failed"])), (1, [], 1))
        self.assertIn("there is no backend cpu", said)
        code, said, _ = self.run_with("print('{}')", "--formats", "q8_0")
        self.assertEqual(code, 1)
        self.assertIn("printed what cannot be read (KeyError", said)

    def test_wrong_arguments_are_explained(self):
        for words, said in [(["--formats", "q9_9"], "q9_9: there is no such format\n  remedy: the formats are f32"),
                            (["--text", "no/text"], "no/text cannot be read"),
                            (["--plugin", "no/plugin.so"], "no/plugin.so is no file"),
                            (["--config", "no/config.toml"], "no/config.toml is no file"),
                            (["--camelid", "no/camelid"], "no/camelid is no file")]:
            options = command.arguments().parse_args(["run", "--camelid", sys.executable, *words])
            with self.subTest(words), self.assertRaisesRegex(BenchError, said):
                options.run(options)


if __name__ == "__main__":
    unittest.main()
