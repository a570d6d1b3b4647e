from kd.errors import unknown


def test_unknown_names_the_nearest_and_all_known():
    message = str(unknown("method", "softtarget", ["kd", "softtargets"]))
    assert message == "Unknown method 'softtarget'. Did you mean 'softtargets'? Known: kd, softtargets."


def test_unknown_proposes_nothing_far_fetched():
    assert "Did you mean" not in str(unknown("run", "zzz", ["resnet", "densenet"]))


def test_a_long_list_is_cut():
    message = str(unknown("run", "x", [f"run-{number}" for number in range(100)]))
    assert message.endswith("run-29 and 70 more.")
