import contextlib
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path

import compare
from camelid_bench import models
from camelid_bench.errors import BenchError

RATES = {"prefill_tokens_per_s": 900.5, "decode_tokens_per_s": 100.25, "kv_dtype": "f16"}


class Running(unittest.TestCase):
    """`run` with a program that stands in for camelid, and no peers."""

    def test_a_run_is_measured_with_its_configuration_and_written_down(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            program, config = folder / "camelid", folder / "f16.toml"
            program.write_text(f"#!{sys.executable}\nimport sys\nif '--version' in sys.argv: print('camelid 0'); sys.exit()\n"
                               f"assert sys.argv[sys.argv.index('--config') + 1] == {str(config)!r}, sys.argv\n"
                               f"print({json.dumps(json.dumps(RATES))})\n", encoding="utf-8")
            program.chmod(0o755)
            config.write_text("", encoding="utf-8")
            models.path_of(folder, "smollm2-135m", "f16").write_bytes(b"")
            options = compare.arguments().parse_args(
                ["run", "--camelid", str(program), "--models", str(folder), "--out", str(folder / "out"), "--no-peers",
                 "--no-bandwidth", "--formats", "f16", "--model", "smollm2-135m", "--workloads", "base", "--threads", "2",
                 "--rounds", "2", "--config", str(config)])
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual(options.run(options), 0)
            path = next((folder / "out").glob("*-cpu.json"))
            made = json.loads(path.read_text(encoding="utf-8"))
            self.assertTrue(path.with_suffix(".md").is_file() and path.with_suffix(".svg").is_file())
        self.assertEqual([row["samples"]["camelid"] for row in made["rows"]], [[900.5] * 2, [100.25] * 2])
        self.assertTrue(made["versions"]["Camelid"].endswith("configuration f16.toml"), made["versions"])

    def test_wrong_arguments_are_explained_before_anything_is_built(self):
        for words, said in [(["--workloads", "much"], "there is no workload much\n  remedy: the workloads are"),
                            (["--config", "no/config.toml"], "--config .*no/config.toml is no file\n  remedy: "),
                            (["--plugin", "no/plugin.so"], "--plugin .*no/plugin.so is no file\n  remedy: "),
                            (["--camelid", "no/camelid"], "--camelid .*no/camelid is no file\n  remedy: ")]:
            options = compare.arguments().parse_args(["run", "--camelid", sys.executable, *words])
            with self.subTest(words), self.assertRaisesRegex(BenchError, said):
                options.run(options)


if __name__ == "__main__":
    unittest.main()
