from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from harness.report.labels import Box, Label, Texts, label_points

PLANE = Box(0, 0, 1000, 1000)


def texts(count: int, width: float = 60, said: str = "name") -> Texts:
    return Texts({i: said for i in range(count)}, lambda *_: (width, 12), gap=6, reach=60)


def place(points: list[tuple[float, float]], width: float = 60) -> list[Label]:
    return label_points(points, [texts(len(points), width)], PLANE)


def apart(one: Box, other: Box) -> bool:
    return (
        one.x + one.width <= other.x
        or other.x + other.width <= one.x
        or one.y + one.height <= other.y
        or other.y + other.height <= one.y
    )


def test_a_lonely_point_has_its_name_on_the_right() -> None:
    (label,) = place([(500, 500)])
    assert label == Label(0, "name", Box(509, 494, 60, 12), None, 0)


def test_at_the_right_edge_it_is_on_the_left() -> None:
    (label,) = place([(980, 500)])
    assert label.box.x + label.box.width < 980


@given(st.lists(st.tuples(st.integers(2, 7), st.integers(2, 30)), max_size=20, unique=True))
def test_names_of_points_that_are_not_crowded_never_overlap(cells: list[tuple[int, int]]) -> None:
    labels = place([(120.0 * x, 30.0 * y) for x, y in cells], width=80)
    assert all(apart(one.box, other.box) for one, other in combinations(labels, 2))
    assert not any(label.covers or label.leader for label in labels)


def test_two_points_that_touch_have_their_names_on_two_sides() -> None:
    one, other = place([(500, 500), (505, 502)])
    assert apart(one.box, other.box)


def test_a_name_that_has_no_room_beside_its_point_has_a_line_to_it() -> None:
    around = [(500.0 + 24 * x, 500.0 + 24 * y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    (label,) = label_points(around, [Texts({4: "name"}, lambda *_: (60, 12), 6, 60)], PLANE)
    assert label.leader and not label.covers
    (x, y), end = label.leader
    assert label.box.x <= x <= label.box.x + label.box.width
    assert abs(end[0] - 500) <= 6 and abs(end[1] - 500) <= 6


def test_a_name_crosses_no_line() -> None:
    link = ((530.0, 400.0), (530.0, 600.0))
    (label,) = label_points([(500, 500)], [texts(1)], PLANE, [link])
    assert label.box.x + label.box.width < 500


def test_where_names_have_no_room_the_next_texts_are_taken() -> None:
    points = [(500.0 + 13 * (i % 5), 500.0 + 13 * (i // 5)) for i in range(25)]
    names, numbers = texts(25, width=200), texts(25, width=6, said="1")
    assert {label.text for label in label_points(points, [names, numbers], PLANE)} == {"1"}
    (label,) = label_points(points, [names._replace(by_point={24: "name"}), numbers], PLANE)
    assert label.text == "name"


def test_no_points_have_no_names() -> None:
    assert label_points([], [texts(0), texts(0)], PLANE) == []
