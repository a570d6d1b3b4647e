import pytest

from kd.errors import UsageError
from kd.registry import Registry


def test_members_come_back_in_order_and_unknown_names_are_refused():
    things: Registry[int] = Registry("thing")
    things.add("one")(1)
    things.add("two")(2)
    assert list(things) == ["one", "two"]
    assert len(things) == 2
    assert things["two"] == 2
    assert "three" not in things
    with pytest.raises(UsageError, match="Unknown thing 'tow'. Did you mean 'two'"):
        things["tow"]
    for value in (None, 2, ["one"]):
        with pytest.raises(UsageError, match="Unknown thing"):
            things[value]


def test_a_name_is_taken_once():
    things: Registry[int] = Registry("thing")
    things.add("one")(1)
    with pytest.raises(ValueError, match="twice"):
        things.add("one")(2)
