from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from harness.report.labels import Box, place_labels

PLANE = Box(0, 0, 1000, 1000)


def apart(one: Box, other: Box) -> bool:
    return (
        one.x + one.width <= other.x
        or other.x + other.width <= one.x
        or one.y + one.height <= other.y
        or other.y + other.height <= one.y
    )


def test_a_lonely_point_has_its_name_on_the_right() -> None:
    (box,) = place_labels([(500, 500)], [(0, 60, 12)], PLANE, gap=6)
    assert box == Box(509, 494, 60, 12)


def test_at_the_right_edge_it_is_on_the_left() -> None:
    (box,) = place_labels([(980, 500)], [(0, 60, 12)], PLANE, gap=6)
    assert box.x + box.width < 980


@given(st.lists(st.tuples(st.integers(2, 7), st.integers(2, 30)), max_size=20, unique=True))
def test_names_of_points_that_are_not_crowded_never_overlap(cells: list[tuple[int, int]]) -> None:
    points = [(120.0 * x, 30.0 * y) for x, y in cells]
    placed = place_labels(points, [(i, 90, 12) for i in range(len(points))], PLANE, gap=6)
    assert all(apart(one, other) for one, other in combinations(placed, 2))


def test_two_points_that_touch_have_their_names_on_two_sides() -> None:
    one, other = place_labels([(500, 500), (505, 502)], [(0, 60, 12), (1, 60, 12)], PLANE, gap=6)
    assert apart(one, other)
