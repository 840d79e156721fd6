import json
import sys
import tempfile
import unittest
from pathlib import Path

from camelid_bench.errors import BenchError
from camelid_bench.programs import Camelid, Candle, IkLlamaCpp, LlamaCpp, Run, Workload

BASE = Workload("base", 512, 128)
DEPTH = Workload("depth", 0, 128, depth=2048)
BATCH = Workload("batch", 0, 64, depth=128, sequences=16)
HOW = Run(Path("model.gguf"), 2, 1)

LLAMA_BENCH = """[
  { "n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ts": 79.4, "samples_ts": [ 75.0, 79.0, 83.0 ] },
  { "n_prompt": 0, "n_gen": 128, "n_depth": 0, "avg_ts": 11.8, "samples_ts": [ 14.0, 12.0, 7.0 ] }
]
"""
IK_BENCH = """ggml: a warning [of some kind]
[
  { "n_prompt": 2048, "n_gen": 128, "avg_ts": 5.6, "test": "tg128@pp2048", "samples_ts": [ 4.0, 6.0 ] }
]

"""
IK_BATCHED = """
main: n_kv_max = 4096, n_batch = 2048

|    PP |     TG |    B |   N_KV |   T_PP s | S_PP t/s |   T_TG s | S_TG t/s |      T s |    S t/s |
|-------|--------|------|--------|----------|----------|----------|----------|----------|----------|
|    64 |      4 |   16 |   1088 |    4.027 |   254.26 |    8.728 |     7.33 |   12.756 |    85.30 |

llama_print_timings: total
"""


class Commands(unittest.TestCase):
    def words(self, program, workload):
        return " ".join(map(str, program.command(workload, HOW)))

    def test_all_measure_the_same(self):
        camelid = Camelid("camelid", "cpu", ["libcpu.so"])
        self.assertEqual(
            self.words(camelid, BASE),
            "camelid bench --json --model model.gguf --backend cpu --plugin libcpu.so --threads 2 --repetitions 1 "
            "--prompt-tokens 512 --gen-tokens 128 --depth 0")
        self.assertEqual(camelid.env, {"CAMELID_ENGINE_KV_DTYPE": "f16"})
        self.assertTrue(self.words(camelid, BATCH).endswith("--gen-tokens 64 --depth 128 --sequences 16"))
        self.assertIn("-p 512 -n 128 -d 0 -o json", self.words(LlamaCpp("llama"), BASE))
        self.assertIn("-p 0 -n 128 -d 2048 -o json", self.words(LlamaCpp("llama"), DEPTH))
        self.assertIn("-rtr 1 -o json -p 512 -n 128", self.words(IkLlamaCpp("ik", True), BASE))
        self.assertIn("-rtr 0 -o json -p 0 -n 0 -gp 2048,128", self.words(IkLlamaCpp("ik", False), DEPTH))

    def test_several_sequences_have_programs_of_their_own(self):
        same = "-m model.gguf -t 2 -c 3072 -b 2048 -ub 512 -npp 128 -ntg 64 -npl 16"
        self.assertEqual(self.words(LlamaCpp("llama"), BATCH),
                         f"llama/bin/llama-batched-bench {same} --output-format jsonl")
        self.assertEqual(self.words(IkLlamaCpp("ik", True), BATCH), f"ik/bin/llama-batched-bench {same} -fa 0 -rtr")

    def test_candle_has_one_sequence_from_the_start(self):
        candle = Candle("candle")
        self.assertEqual([candle.can(work, HOW) for work in (BASE, DEPTH, BATCH)], [True, False, False])

    def test_camelid_reads_the_configuration_that_is_given(self):
        plain, configured = (Camelid("camelid", "cpu", ["libcpu.so"], config).command(BASE, HOW) for config in (None, "f16.toml"))
        at = configured.index("--config")
        self.assertEqual(configured[at + 1], "f16.toml")
        self.assertEqual(configured[:at] + configured[at + 2:], plain)


class Outputs(unittest.TestCase):
    def test_camelid_says_both_speeds(self):
        output = json.dumps({"prefill_tokens_per_s": 900.5, "decode_tokens_per_s": 100.25, "kv_dtype": "f16"})
        camelid = Camelid("camelid", "cpu", [])
        self.assertEqual(camelid.read(output, BASE), {"prefill": 900.5, "decode": 100.25})
        self.assertEqual(camelid.read(output, DEPTH), {"decode": 100.25})
        with self.assertRaisesRegex(ValueError, "f32, the peers' f16"):
            camelid.read(output.replace('"f16"', '"f32"'), BASE)

    def test_llama_bench_lists_samples(self):
        self.assertEqual(LlamaCpp("llama").read(LLAMA_BENCH, BASE), {"prefill": 79.0, "decode": 12.0})
        self.assertEqual(IkLlamaCpp("ik", True).read(IK_BENCH, DEPTH), {"decode": 5.0})

    def test_batches_are_a_line_or_a_table(self):
        line = '\n{"pp": 128, "tg": 64, "pl": 16, "speed_pp": 142.1, "speed_tg": 32.7}\n'
        self.assertEqual(LlamaCpp("llama").read(line, BATCH), {"decode": 32.7})
        self.assertEqual(IkLlamaCpp("ik", False).read(IK_BATCHED, BATCH), {"decode": 7.33})


class Failures(unittest.TestCase):
    def script(self, text):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "camelid"
        path.write_text(f"#!{sys.executable}\n{text}\n", encoding="utf-8")
        path.chmod(0o755)
        return Camelid(path, "cpu", [])

    def test_a_program_that_is_missing_is_named(self):
        with self.assertRaisesRegex(BenchError, "no/camelid cannot be run: No such file.*\n  remedy: "):
            Camelid("no/camelid", "cpu", []).measure(BASE, HOW)

    def test_one_that_fails_is_shown_with_its_last_words(self):
        program = self.script("import sys; sys.exit('there is no backend cpu')")
        with self.assertRaisesRegex(BenchError, "camelid bench --json.*ended with 1:\n    there is no backend cpu\n  remedy"):
            program.measure(BASE, HOW)

    def test_output_that_is_no_result_is_shown(self):
        for text, problem in [("print('{')", "JSONDecodeError"), ("print('[]')", "AttributeError"),
                              ("print('{}')", "KeyError"),
                              ("print('{\"prefill_tokens_per_s\": 1, \"decode_tokens_per_s\": null}')", "TypeError"),
                              ("print('{\"prefill_tokens_per_s\": 1, \"decode_tokens_per_s\": 0}')", "no speed of decode")]:
            with self.subTest(text), self.assertRaisesRegex(BenchError, problem):
                self.script(text).measure(BASE, HOW)

    def test_a_result_is_returned(self):
        program = self.script("print('{\"prefill_tokens_per_s\": 2, \"decode_tokens_per_s\": 3}')")
        self.assertEqual(program.measure(BASE, HOW), {"prefill": 2, "decode": 3})


if __name__ == "__main__":
    unittest.main()
