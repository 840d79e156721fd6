import contextlib
import copy
import io
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from camelid_bench import plot, report
from camelid_bench.errors import BenchError
from camelid_bench.machine import describe
from camelid_bench.pairs import Case, add_bandwidth_share, measure, plan, row
from camelid_bench.programs import Workload
from tests.test_files import gguf

BASE = Workload("base", 512, 128)
DEPTH = Workload("depth", 0, 128, depth=2048)
SAMPLES = {"camelid": [300.0, 310.0], "llama.cpp": [100.0, 100.0], "ik_llama.cpp rtr=0": [150.0, 155.0],
           "ik_llama.cpp rtr=1": [120.0, 120.0]}


def results():
    rows = [row(Case("smollm2-135m", form, 2, BASE), kind, SAMPLES) for form in ("q8_0", "q4_1") for kind in
            ("prefill", "decode")]
    rows[1]["bandwidth_share"] = {"camelid": 0.8}
    rows.append(row(Case("smollm2-135m", "q8_0", 2, DEPTH), "decode", {"camelid": [50.0], "llama.cpp": [40.0]}))
    machine = {"cpu": "A <CPU> & more", "family_model_stepping": "1/2/3", "cores": 2, "cache": "1 MB", "system": "Linux",
               "flags": ["avx2"]}
    return {"title": "A run", "date": "2026-01-02", "machine": machine, "bandwidth": {"2": 44.5}, "load": [0.1, None],
            "versions": {"llama.cpp": "1"}, "settings": {"rounds": 2}, "commands": ["camelid bench"], "rows": rows,
            "failed": [{"case": "c", "program": "candle", "error": "it broke\nmore"}]}


class Report(unittest.TestCase):
    def test_the_better_peer_and_the_better_of_one_peer(self):
        made = results()["rows"][0]
        self.assertEqual(made["better"], "ik_llama.cpp rtr=0")
        self.assertEqual(made["ratios"]["llama.cpp"], {"median": 3.05, "min": 3.0, "max": 3.1})
        self.assertEqual(report.column(SAMPLES, "ik_llama.cpp"), ("ik_llama.cpp rtr=0", 152.5))
        self.assertEqual(report.column(SAMPLES, "candle"), (None, None))

    def test_the_page_has_a_table_a_kind_and_what_failed(self):
        page = report.page(results())
        self.assertIn("| Q8_0 | 305 | 100 | 152 | 2.00 (2.00 to 2.00) | 3.05 (3.00 to 3.10) | 80% |", page)
        self.assertIn("### SmolLM2-135M: decode at context 2048, 2 threads", page)
        self.assertIn("- c, candle: it broke\n", page)
        self.assertIn("- Memory read with 2 threads: 44.5 GB/s", page)

    def test_peers_alone_have_no_ratio(self):
        made = copy.deepcopy(results())
        made["rows"] = [row(Case("smollm2-135m", "q8_0", 2, BASE), "decode", {"llama.cpp": [1.0]})]
        self.assertIn("| Q8_0 |  | 1.0 |  |  |  |", report.page(made))


class Plot(unittest.TestCase):
    def test_it_is_well_formed_white_and_has_every_bar(self):
        made = results()
        root = ElementTree.fromstring(plot.svg(made))
        space = "{http://www.w3.org/2000/svg}"
        rects = root.findall(f"{space}rect")
        self.assertEqual(rects[0].get("fill"), "#ffffff")
        titles = [rect.find(f"{space}title").text for rect in rects if rect.find(f"{space}title") is not None]
        # Two formats, two kinds, three programs; no row at a depth.
        self.assertEqual(len(titles), 12)
        self.assertIn("ik_llama.cpp, Q4_1: 152.5 tokens/s", titles)
        for rect in rects:
            self.assertGreaterEqual(float(rect.get("height")), 0)
            self.assertLessEqual(float(rect.get("y") or 0) + float(rect.get("height")), float(root.get("height")))

    def test_nothing_to_show_is_said(self):
        made = results()
        made["rows"] = []
        self.assertIn("was measured", ElementTree.fromstring(plot.svg(made))[1].text)
        with self.assertRaisesRegex(BenchError, "leave --threads out"):
            plot.svg(results(), 7)

    def test_scales_are_round_and_hold_the_value(self):
        self.assertEqual([plot.nice(value) for value in (0.5, 1, 7.1, 183, 450, 2542)], [1, 1, 8, 200, 480, 2800])

    def test_a_file_of_something_else_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.json"
            with self.assertRaisesRegex(BenchError, "cannot be read"):
                plot.load(path)
            for text in ("{", "[]", "{}"):
                path.write_text(text, encoding="utf-8")
                with self.assertRaisesRegex(BenchError, "no file of results"):
                    plot.load(path)


class Order(unittest.TestCase):
    def test_programs_take_turns_and_one_that_fails_is_out(self):
        calls = []

        class Fake:
            def __init__(self, name, fails_at=99):
                self.name, self.left = name, fails_at

            def can(self, workload, how):
                return True

            def measure(self, workload, how, launcher, cwd):
                calls.append(self.name)
                self.left -= 1
                if self.left == 0:
                    raise BenchError("it broke", "mend it")
                return {"prefill": 2.0, "decode": 1.0}

        case = Case("smollm2-135m", "q8_0", 1, BASE)
        with contextlib.redirect_stderr(io.StringIO()):
            rows, failed = measure(case, [Fake("camelid"), Fake("a"), Fake("b", 2)], Path("."), 3, 1)
        self.assertEqual(calls, ["camelid", "a", "b", "camelid", "a", "b", "camelid", "a"])
        self.assertEqual(failed, [("b", "it broke\n  remedy: mend it")])
        self.assertEqual(set(rows[0]["samples"]), {"camelid", "a"})
        self.assertEqual(rows[1]["ratios"]["a"]["median"], 1.0)

    def test_the_memory_has_its_turn_and_the_share_is_of_its_round(self):
        made = row(Case("smollm2-135m", "q8_0", 2, BASE), "decode", {"camelid": [100.0, 50.0]})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.gguf"
            path.write_bytes(gguf({"token_embd.weight": ([1000, 1000], 0)}, {
                "llama.block_count": 0, "llama.embedding_length": 64, "llama.attention.head_count": 4,
                "llama.attention.head_count_kv": 2}))
            add_bandwidth_share(made, path, [1.0, 0.5])
        # 4 MB a token.
        self.assertAlmostEqual(made["bandwidth_share"]["camelid"], 0.4)
        self.assertEqual(report.bandwidth([made, {"threads": 1}]), {"2": 0.75})

    def test_long_contexts_run_once_with_the_most_threads(self):
        cases = plan(["smollm2-135m", "llama-1b"], None, [1, 2], [BASE, DEPTH])
        self.assertEqual(sum(case.workload is BASE for case in cases), 2 * (7 + 4))
        deep = [case for case in cases if case.workload is DEPTH]
        self.assertEqual({(case.model, case.threads) for case in deep}, {("smollm2-135m", 2)})
        self.assertEqual(len(plan(["llama-1b"], ["f32"], [1], [BASE])), 0)


class Machine(unittest.TestCase):
    def test_the_first_processor_and_the_flags_that_matter(self):
        found = describe("model name\t: A\ncpu family\t: 26\nmodel\t\t: 2\nflags\t\t: fpu avx2 avx512f\n\nmodel name\t: B\n")
        self.assertEqual((found["cpu"], found["family_model_stepping"]), ("A", "26/2"))
        self.assertEqual(found["flags"], ["avx2", "avx512f"])


if __name__ == "__main__":
    unittest.main()
