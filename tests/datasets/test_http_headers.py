"""What the headers of an answer say of a file: its version, and how long to wait."""

import pytest
import requests

from neurosuper.datasets.answers import Version, retry_after

EARLY, LATE = "Mon, 01 Jan 2024 00:00:00 GMT", "Mon, 01 Jan 2024 00:00:07 GMT"


def answer(**headers):
    response = requests.Response()
    response.status_code = 200
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def version(**headers):
    return Version.of(answer(**headers))


@pytest.mark.parametrize(
    ("headers", "exact", "condition"),
    [
        ({"ETag": '"a"'}, True, '"a"'),
        ({"ETag": 'W/"a"'}, False, None),
        ({"Last_Modified": EARLY, "Date": LATE}, True, EARLY),
        ({"Last_Modified": EARLY, "Date": EARLY}, False, None),  # it may change again within this second
        ({"Last_Modified": "yesterday", "Date": LATE}, False, None),
        ({"ETag": 'W/"a"', "Last_Modified": EARLY, "Date": LATE}, True, EARLY),
        ({}, False, None),
    ],
)
def test_only_a_strong_etag_or_a_date_in_the_past_tells_bytes_apart(headers, exact, condition):
    assert (version(**headers).exact, version(**headers).condition) == (exact, condition)


@pytest.mark.parametrize(
    ("later", "told"),
    [
        ({"ETag": '"a"'}, ""),
        ({"ETag": 'W/"a"'}, ""),
        ({"ETag": '"b"'}, "another ETag"),
        ({"ETag": 'W/"b"'}, "another ETag"),
        ({"ETag": '"a"', "Content_Length": "6"}, "6 bytes in place of 5"),
        ({"Content_Length": "5"}, "neither the ETag nor the Last-Modified of before"),
    ],
)
def test_a_later_answer_is_of_the_same_version_only_if_it_says_so(later, told):
    assert version(ETag='"a"', Content_Length="5").difference(version(**later)) == told


def test_dates_are_compared_where_there_are_no_tags():
    dated = version(Last_Modified=EARLY, Date=LATE)
    assert dated.difference(version(Last_Modified=EARLY)) == ""
    assert dated.difference(version(Last_Modified=LATE)) == "another Last-Modified"


def test_a_version_is_noted_and_read_again():
    noted = version(ETag='"a"', Content_Length="5").note()
    assert Version.noted(noted) == version(ETag='"a"', Content_Length="5")
    for damaged in ({}, {"etag": 3}, {"length": "5", "exact": True}, {"etag": ["a"], "exact": True}):
        assert Version.noted(damaged) == Version()


@pytest.mark.parametrize(
    ("asked", "wait"),
    [("60", 60), (LATE, 7), (EARLY, 0), ("soon", 0), ("-5", 0), ("9" * 400, float("inf"))],
)
def test_a_server_says_how_long_to_wait_by_its_own_clock(asked, wait):
    assert retry_after(answer(Retry_After=asked, Date=EARLY)) == wait
