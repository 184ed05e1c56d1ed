from harness.run.provenance import joint, provenance


def test_what_machines_have_in_common_is_said_once_and_the_rest_is_listed() -> None:
    here = provenance("cpu") | {"utc": "2020-01-01T00:00:00+00:00"}
    there = here | {"cpu": "another", "utc": "2020-01-02T00:00:00+00:00"}
    told = joint([here, there, here])
    assert told["cpu"] == [here["cpu"], "another"]
    assert {key for key in here if told[key] != here[key]} == {"cpu", "utc"}
    assert told["utc"] > "2026", "it is when the work ended"
