import errno

import pytest

from kd.__main__ import main
from kd.cli import verbs
from kd.errors import file_system_sentence, unknown


def test_unknown_names_the_nearest_and_all_known():
    message = str(unknown("method", "softtarget", ["kd", "softtargets"]))
    assert message == "Unknown method 'softtarget'. Did you mean 'softtargets'? Known: kd, softtargets."


def test_unknown_proposes_nothing_far_fetched():
    assert "Did you mean" not in str(unknown("run", "zzz", ["resnet", "densenet"]))


def test_a_long_list_is_cut():
    message = str(unknown("run", "x", [f"run-{number}" for number in range(100)]))
    assert message.endswith("run-29 and 70 more.")


@pytest.mark.parametrize(("error", "sentence"), [
    (OSError(errno.ENOSPC, "No space left on device", "/a/b"), "The disk is full: /a/b. Delete runs or data caches"),
    (OSError(errno.EROFS, "Read-only file system"), "The disk is read-only. Mount it writable"),
    (PermissionError(errno.EACCES, "Permission denied", "/a"), "Permission is missing: /a. Give this user the right"),
    (OSError(errno.ENAMETOOLONG, "File name too long"), "A name is too long. Take a shorter one"),
    (RuntimeError("I/O error: No space left on device (os error 28)"), "The disk is full. Delete runs"),
    (OSError("anything"), ""), (ValueError("28"), ""), (FileNotFoundError(errno.ENOENT, "No such file"), "")])
def test_errors_of_the_file_system_are_sentences(error, sentence):
    assert file_system_sentence(error).startswith(sentence)
    assert bool(file_system_sentence(error)) == bool(sentence)


@pytest.mark.parametrize("words", [["runs"], ["datasets"], ["show", "x"], ["delete", "x"], ["resume", "x"], ["demo"]])
def test_every_verb_answers_them_with_exit_2(monkeypatch, capsys, words):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(verbs, "run_verb", full)
    assert main(words) == 2
    assert capsys.readouterr().err == "kd: The disk is full. Delete runs or data caches, then try again.\n"
