from kd.roles import COLOURS, CONTROL, EIGHT_BIT, MARKS, OTHERS, ROLES, STUDENT, TEACHER


def test_every_role_has_a_colour_and_a_mark_of_its_own():
    assert (*ROLES, *OTHERS, EIGHT_BIT) == tuple(COLOURS) == tuple(MARKS)
    assert ROLES == (TEACHER, CONTROL, STUDENT) == ("teacher", "control", "student")
    assert len(set(COLOURS.values())) == len(set(MARKS.values())) == len(ROLES) + len(OTHERS) + 1
