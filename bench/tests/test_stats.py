import unittest

from camelid_bench.stats import Ratio, bandwidth_share, best


class Stats(unittest.TestCase):
    def test_a_ratio_is_of_pairs(self):
        ratio = Ratio([10, 20, 30], [10, 10, 20])
        self.assertEqual((ratio.median, ratio.min, ratio.max), (1.5, 1.0, 2.0))
        self.assertEqual(str(ratio), "1.50 (1.00 to 2.00)")
        self.assertEqual(Ratio([1, 2], [1, 1]).median, 1.5)

    def test_pairs_must_be_whole(self):
        with self.assertRaises(ValueError):
            Ratio([1, 2], [1])
        with self.assertRaises(ValueError):
            Ratio([], [])

    def test_the_best_has_the_highest_median(self):
        self.assertEqual(best({"a": [1, 2, 300], "b": [3, 3, 3], "c": []}), "b")
        self.assertIsNone(best({}))

    def test_bandwidth_counts_weights_once_a_step_and_the_context_of_each_sequence(self):
        # 100 steps a second of 1 GB.
        self.assertAlmostEqual(bandwidth_share(10**9, 0, 0, 1, 1, 100, 200), 0.5)
        # 16 sequences: a step gives 16 tokens.
        self.assertAlmostEqual(bandwidth_share(10**9, 0, 0, 1, 16, 1600, 200), 0.5)
        # One step at depth 99 reads 100 positions.
        self.assertAlmostEqual(bandwidth_share(0, 10**7, 99, 1, 1, 100, 200), 0.5)
        self.assertAlmostEqual(bandwidth_share(0, 10**7, 0, 3, 1, 100, 200), 0.01)


if __name__ == "__main__":
    unittest.main()
