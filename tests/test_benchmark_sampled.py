from benchmarks.sampled import SAMPLED, rows


def test_every_explanation_has_a_ratio(few_samples):
    found = list(rows("test_resnet", 32, 1))
    assert [cells[1] for cells in found[:-1]] == [*SAMPLED, "faithfulness"]
    assert all(float(cells[3].split()[0]) > 0 for cells in found)
