from kd.evaluation.evidence_sentence import evidence_sentences, sentence


def one(mean: float, low: float | None, high: float | None) -> dict:
    return {"mean": mean, "low": low, "high": high, "n": 50}


def needs(difference: dict, without: dict | None = None, blurred: float = 0.3, overlap: float = 0.2) -> dict:
    return {"kept": {"without": without or one(0.93, 0.9, 0.96), "mirrored": one(0.97, 0.95, 0.99),
                     "blurred": one(blurred, None, None)}, "overlap": overlap,
            "mirrored_minus_without": difference}


def test_it_says_what_the_paired_interval_allows():
    assert sentence("teacher", needs(one(0.04, 0.01, 0.07))) == (
        "Blurring the evidence away keeps 93 % (90 to 96) of the teacher's decisions, blurring its mirrored region "
        "away 97 % (95 to 99): the teacher hardly uses the evidence, so a faithful map need not point at it.")
    assert "nothing shows that the student uses the evidence" in sentence("student", needs(one(0.04, -0.01, 0.07)))
    assert "30 % of its decisions hang on the evidence" in sentence("student", needs(one(0.3, 0.2, 0.4)))
    assert sentence("student", needs(one(0.0, -0.1, 0.1), blurred=0.95)).endswith("the whole image keeps 95 %.")
    assert sentence("student", needs(one(0.0, -0.1, 0.1), overlap=0.7)).endswith(
        "covers 70 % of the evidence itself, so it is a weak control.")
    assert "too few images" in sentence("student", needs(one(0.3, None, None)))


def test_it_does_without_intervals():
    said = sentence("model", needs(one(0.5, None, None), one(0.5, None, None)))
    assert said.startswith("Blurring the evidence away keeps 50 % of the model's decisions")


def test_there_is_none_without_masks():
    assert evidence_sentences(None) == evidence_sentences({"teacher": {"images": 0, "reason": "No masks."}}) == {}
    assert list(evidence_sentences({"teacher": {"images": 0}, "student": needs(one(0.0, -0.1, 0.1))})) == ["student"]
